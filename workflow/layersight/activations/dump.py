"""Dumping the activations of one subject on probe sets, from files to files."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from layersight import interruption
from layersight.activations.budget import ModelShape, activation_bytes, check_space, counted
from layersight.activations.capture import capture
from layersight.activations.streams import (
    EVERY,
    ONE,
    REVERSED,
    Pass,
    image_last,
    one_tokens,
    passes,
    stored_name,
)
from layersight.activations.writer import ActivationWriter
from layersight.data.collation import collate, length_sorted_batches
from layersight.data.conversation import Role, Tokens
from layersight.data.features import FeatureStore
from layersight.data.rows import tokenized_rows
from layersight.models.blocks import decoder_blocks, unwrapped
from layersight.models.subjects import Subject
from layersight.progress import Progress
from layersight.storage.atomic import atomic_folder
from layersight.storage.manifest import Stopwatch, write_manifest
from layersight.storage.tables import read_table
from layersight.study import Study


def dump(
    study: Study,
    subject: Subject,
    *,
    probes: Mapping[str, Path],
    features: Path | None,
    outs: Mapping[str, Path],
    work: Path | None = None,
) -> None:
    """Write the activations of all layers and streams, one folder a probe set.

    Args:
        study: the study.
        subject: a loaded subject.
        probes: name of the probe set to its table.
        features: image features; None if no input has a picture.
        outs: name of the probe set to its folder, which appears whole as soon as it is done:
            `layer=NN/*-NNNN.parquet` and `manifest.json`.
        work: folder for finished parts, from which the same call goes on; None keeps none. On the
            file system of `outs`, so that parts need not be copied.

    Raises:
        DataError: a probe set is not what it should be, a vector cannot be stored, or the disk has
            too little room.
        Interrupted: an end was asked for; finished parts are kept.
    """
    store = FeatureStore.of(features)
    for name, table in probes.items():
        watch = Stopwatch()
        rows, images = tokenized_rows(
            study, table, subject.tokenizer, subject.model.image_tokens(store.tokens)
        )
        inputs = _Inputs(rows, images, read_table(table).column("item_id").to_pylist())
        shape = model_shape(subject.model.language_model)
        with _folder_for_parts(work, name, outs[name]) as parts:
            check_space(
                study,
                f"activations of {subject.name} on {name}",
                outs[name],
                activation_bytes(study.activations, shape, counted(rows)),
                kept=sum(path.stat().st_size for path in parts.rglob("*.parquet")),
            )
            writer = ActivationWriter(
                parts,
                layers=shape.layers + 1,
                width=shape.width,
                dtype=study.activations.dtype,
                rows_per_part=study.activations.rows_per_part,
            )
            kept = writer.rows
            _read(study, subject, name, inputs, store, writer, kept=work is not None)
            with atomic_folder(outs[name]) as beside:
                writer.place(beside)
                write_manifest(
                    beside / "manifest.json",
                    settings=study.activations.model_dump(),
                    seed=None,
                    device=str(subject.model.device),
                    stopwatch=watch,
                    inputs=[path for path in (table, features) if path is not None],
                    items=len(rows),
                    rows=writer.rows,
                    rows_from_an_interrupted_job=kept,
                )


def model_shape(language_model: nn.Module) -> ModelShape:
    """Return the sizes of a language model that its activations depend on."""
    model = unwrapped(language_model)
    heads = int(model.config.num_attention_heads)
    width = int(model.config.hidden_size)
    each = getattr(model.config, "head_dim", None) or width // heads
    return ModelShape(len(decoder_blocks(model)), width, heads * int(each))


@contextmanager
def _folder_for_parts(work: Path | None, name: str, out: Path) -> Iterator[Path]:
    if work is not None:
        yield work / name
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.parts-", dir=out.parent) as folder:
        yield Path(folder)


def _read(
    study: Study,
    subject: Subject,
    name: str,
    inputs: _Inputs,
    store: FeatureStore,
    writer: ActivationWriter,
    *,
    kept: bool,
) -> None:
    """Capture one probe set from where the writer is."""
    settings = study.activations
    wanted = [*settings.stored, *([EVERY] if EVERY in settings.streams else [])]
    runs = passes(wanted)
    calls = sum((len(run.pooled) + run.every) for run in runs) * len(settings.sites)
    lengths = [len(row.input_ids) for row in inputs.rows]
    batches = list(length_sorted_batches(lengths, study.evaluation.batch_size))
    # A part may end between two streams of one batch: that batch runs again.
    first, call_to_go_on_with = divmod(writer.first_call, calls)
    done = sum(len(chosen) for chosen in batches[:first])
    what = f"activations of {subject.name} on {name}"
    label = f"{what}: item"
    if writer.first_call:
        print(f"{what}: goes on at item {done}", file=sys.stderr, flush=True)
        label += f" {done} +"
    with Progress(len(inputs.rows) - done, label) as progress:
        for number, chosen in enumerate(batches[first:]):
            interruption.stop_if_requested(what, f"item {done + progress.done}", kept=kept)
            skip = call_to_go_on_with if number == 0 else 0
            for call, found in enumerate(_batch(study, subject, name, inputs, store, chosen, runs)):
                if call >= skip:
                    writer.add(
                        found.item_ids,
                        found.stream,
                        found.tokens,
                        found.vectors,
                        roles=found.roles,
                        heads=found.heads,
                    )
            progress.advance(len(chosen))
    writer.flush()


@dataclass(frozen=True)
class _Inputs:
    """Tokenised inputs of a probe set: tokens, pictures and ids, in one order."""

    rows: list[Tokens]
    images: list[str | None]
    ids: list[str]


@dataclass(frozen=True)
class _Found:
    """What `ActivationWriter.add` takes."""

    item_ids: list[str]
    stream: str
    tokens: list[int | None]
    vectors: npt.NDArray[np.float32]
    roles: list[str] | None
    heads: bool


def _batch(
    study: Study,
    subject: Subject,
    name: str,
    inputs: _Inputs,
    store: FeatureStore,
    chosen: npt.NDArray[np.intp],
    runs: Sequence[Pass],
) -> Iterator[_Found]:
    """Run a batch, and yield every stream of every site: as many times for every batch."""
    model, sites = subject.model, study.activations.sites
    for run in runs:
        # A conversation without a picture has one order only.
        here = [i for i in chosen if not run.image_last or inputs.images[i] is not None]
        rows = [image_last(inputs.rows[i]) if run.image_last else inputs.rows[i] for i in here]
        ids = [inputs.ids[i] for i in here]
        if not here:
            for site in sites:
                for stream in run.pooled:
                    nothing = np.empty((0, 0, 0), np.float32)
                    yield _Found([], stored_name(stream, site), [], nothing, None, False)
            continue
        batch = collate(
            rows,
            [inputs.images[i] for i in here],
            store,
            padding="left",
            pad_token=int(subject.tokenizer.pad_token_id),
        ).to(model.device)
        positions = _positions(study, name, run, rows, ids)
        length = batch.input_ids.shape[1]
        padding = torch.tensor([length - len(row.input_ids) for row in rows])
        columns = {
            stream: torch.where(found >= 0, found + padding, -1)
            for stream, found in positions.items()
        }
        captured, pool = capture(
            model, batch, run.pooled, sites=sites, columns=columns, every=run.every
        )
        positions["last"] = torch.tensor([len(row.input_ids) - 1 for row in rows])
        present = pool.present.cpu().numpy()
        for site in sites:
            read, heads = captured[site], site == "heads"
            values = read.pooled.cpu().numpy()
            for index, stream in enumerate(run.pooled):
                there = np.flatnonzero(present[index])
                at = positions.get(stream)
                tokens = [None if at is None else int(at[i]) for i in there]
                vectors = values[:, index][:, there]
                taken = [ids[i] for i in there]
                yield _Found(taken, stored_name(stream, site), tokens, vectors, None, heads)
            if read.tokens is not None:
                yield _Found(
                    [item for item, row in zip(ids, rows, strict=True) for _ in row.input_ids],
                    stored_name(EVERY, site),
                    [position for row in rows for position in range(len(row.input_ids))],
                    read.tokens.numpy(),
                    [Role(role).name.lower() for row in rows for role in row.roles],
                    heads,
                )


def _positions(
    study: Study, probe: str, run: Pass, rows: Sequence[Tokens], ids: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return where the streams of one random token have it in every row, -1 for nowhere."""
    named = {stream: stream.removesuffix(REVERSED) for stream in run.pooled}
    if not set(named.values()) & set(ONE):
        return {}
    drawn = [one_tokens(row, study.seed, probe, item) for row, item in zip(rows, ids, strict=True)]
    return {
        stream: torch.tensor([found.get(kind, -1) for found in drawn])
        for stream, kind in named.items()
        if kind in ONE
    }
