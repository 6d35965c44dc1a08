"""One run of training, whichever stage it is: data in order, steps, the folder of its result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from layersight.data.features import ImageInputs
from layersight.data.streaming import ConversationTable
from layersight.errors import DataError
from layersight.models.deltas import save_connector, save_delta, save_vision
from layersight.models.device import limit_threads, torch_device
from layersight.models.vlm import VisionLanguageModel
from layersight.storage.atomic import atomic_folder
from layersight.storage.manifest import Stopwatch, write_manifest
from layersight.storage.tables import write_table
from layersight.study import Optimisation, Study
from layersight.tuning.batching import TrainingBatches, batch_order
from layersight.tuning.checkpoint import Checkpoints
from layersight.tuning.live import Live, Record
from layersight.tuning.live import rows as log_rows
from layersight.tuning.log import LOG, SPEED, TIMES, TRAINING
from layersight.tuning.runtime import Runtime
from layersight.tuning.trainer import Rates, train


@dataclass(frozen=True)
class Places:
    """Where a run writes: its result, its unfinished work, and what shows it as it goes."""

    out: Path
    work: Path | None
    checkpoint_seconds: float
    live: Path | None
    tensorboard: Path | None


class Run:
    """What the two stages share: data in order, training, and the folder that holds its result."""

    def __init__(
        self,
        study: Study,
        subject: str,
        optimisation: Optimisation,
        seed: int,
        places: Places,
    ) -> None:
        self._watch = Stopwatch()
        self._study = study
        self._subject = subject
        self._optimisation = optimisation
        self._places = places
        self._runtime = Runtime(
            torch_device(study), study.compute.precision, study.compute.parallel
        )
        # After accelerate, which sets threads of its own.
        limit_threads(study.compute.training_threads)
        torch.manual_seed(seed)

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return self._runtime.device

    def rows(
        self, conversations: Path, tokenizer: PreTrainedTokenizerBase, image_tokens: int
    ) -> ConversationTable:
        """Return the training conversations.

        Raises:
            DataError: not readable, or not as many as the stage takes.
        """
        work = self._places.work if self._runtime.processes == 1 else None
        rows = ConversationTable(
            self._study,
            conversations,
            tokenizer,
            image_tokens,
            template=self._optimisation.template,
            longest=self._optimisation.max_tokens,
            work=work,
        )
        needed = self._optimisation.steps * self._optimisation.batch_size
        if self._optimisation.data is not None:
            if len(rows) < self._optimisation.batch_size:
                raise DataError(
                    f"{conversations}: has {len(rows)} rows, less than a batch of "
                    f"{self._optimisation.batch_size}"
                )
        elif len(rows) != needed:
            raise DataError(
                f"{conversations}: has {len(rows)} rows, {self._subject} needs {needed}"
            )
        return rows

    def __call__(
        self,
        model: VisionLanguageModel,
        rows: ConversationTable,
        store: ImageInputs,
        tokenizer: PreTrainedTokenizerBase,
        rates: Rates,
        *,
        order_seed: int,
        settings: dict[str, object],
        inputs: list[Path],
        finish: Callable[[Path], object] | None = None,
    ) -> None:
        """Train, and write the result."""
        optimisation, runtime = self._optimisation, self._runtime
        lengths = rows.lengths()
        order: list[list[int]] = []
        while len(order) < optimisation.steps:
            # One epoch after the other, each in an order of its own.
            epoch = batch_order(
                lengths,
                optimisation.batch_size,
                order_seed + len(order),
                group_by=optimisation.group_by,
                pictured=rows.pictured(),
            )
            order += [rows for rows in epoch if len(rows) == optimisation.batch_size]
        order = order[: optimisation.steps]
        learning = {
            "trainable_language_model": _learning(model.language_model),
            "trainable_connector": _learning(model.connector),
            "trainable_vision": _learning(model.vision),
        }
        live = Live(
            self._subject,
            self._places.live if runtime.is_main else None,
            self._places.tensorboard if runtime.is_main else None,
        )
        records = []
        if any(learning.values()):
            records = train(
                model,
                TrainingBatches(
                    order, rows, rows.images, store, int(tokenizer.pad_token_id),
                    capacity=optimisation.pack,
                    lengths=lengths,
                ),
                optimisation,
                what=self._subject,
                rates=rates,
                runtime=runtime,
                checkpoints=self._checkpoints(order),
                live=live,
            )  # fmt: skip
            runtime.gather(model)
        if runtime.is_main:
            self._write(model, records, live, order_seed, settings, inputs, learning, finish)
        runtime.wait()

    def _checkpoints(self, order: list[list[int]]) -> Checkpoints | None:
        if self._places.work is None:
            return None
        return Checkpoints(
            self._places.work,
            seconds=self._places.checkpoint_seconds,
            what=self._subject,
            steps=self._optimisation.steps,
            data=sha256(json.dumps(order).encode()).hexdigest(),
        )

    def _write(
        self,
        model: VisionLanguageModel,
        records: Sequence[Record],
        live: Live,
        seed: int,
        settings: dict[str, object],
        inputs: list[Path],
        learning: dict[str, int],
        finish: Callable[[Path], object] | None,
    ) -> None:
        if model.connector is None:
            raise ValueError("training needs a connector")
        with atomic_folder(self._places.out) as beside:
            save_connector(model.connector, beside)
            save_delta(model.language_model, beside)
            if model.vision is not None:
                save_vision(model.vision, beside)
            write_table(beside / LOG, log_rows(self._subject, records), TRAINING)
            write_table(beside / TIMES, live.times, SPEED)
            write_manifest(
                beside / "manifest.json",
                settings=settings,
                seed=seed,
                device=str(self._runtime.device),
                stopwatch=self._watch,
                inputs=inputs,
                tokens=sum(record.tokens for record in records),
                **learning,
            )
            if finish is not None:
                finish(beside)


def _learning(module: torch.nn.Module | None) -> int:
    if module is None:
        return 0
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
