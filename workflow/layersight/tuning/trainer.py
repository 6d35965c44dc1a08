"""The training loop that stage 1 and stage 2 share."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any, Protocol

from layersight import interruption
from layersight.data.batch import Batch
from layersight.errors import DivergenceError, TrainingError
from layersight.models.blocks import unwrapped
from layersight.models.vlm import VisionLanguageModel
from layersight.progress import Progress
from layersight.study import Optimisation
from layersight.tuning.checkpoint import Checkpoints
from layersight.tuning.live import Live, Record
from layersight.tuning.runtime import Runtime

WORSE_THAN_CHANCE = 3.0
"""Training has diverged when its loss is this many times that of guessing uniformly."""


class Batches(Protocol):
    """Batches by their step, such as a list of them."""

    def __getitem__(self, step: int, /) -> Batch: ...


class DividedBatches(Batches, Protocol):
    """Batches that several processes share, or that are computed in parts."""

    def part(self, step: int, index: int, parts: int) -> Batch:
        """Return one of so many parts of a batch; each has at least one row."""
        ...


@dataclass(frozen=True)
class Rates:
    """Peak learning rates of the parts of a model."""

    language_model: float
    connector: float
    vision: float = 0.0


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate at a step: linear warm-up, then a cosine to zero.

    As transformers' `get_cosine_schedule_with_warmup`, with the warm-up rounded up as LLaVA's
    trainer does (`math.ceil(steps * warmup_ratio)`).
    """
    rising = math.ceil(steps * warmup)
    if step < rising:
        return step / max(1, rising)
    done = (step - rising) / max(1, steps - rising)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))


def parameter_groups(
    model: VisionLanguageModel, settings: Optimisation, rates: Rates
) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups; only matrices decay (as transformers' trainer does).

    Raises:
        TrainingError: nothing in the model learns.
    """
    places = {
        "connector": (model.connector, rates.connector),
        "vision_encoder": (model.vision, rates.vision),
        "language_model": (model.language_model, rates.language_model),
    }
    groups = []
    for name, (module, rate) in places.items():
        learning = [] if module is None else [p for p in module.parameters() if p.requires_grad]
        for is_matrix in (True, False):
            chosen = [p for p in learning if (p.ndim >= 2) == is_matrix]
            if chosen:
                groups.append(
                    {
                        "params": chosen,
                        "peak": rate,
                        "lr": 0.0,
                        "weight_decay": settings.weight_decay if is_matrix else 0.0,
                        "name": name,
                    }
                )
    if not groups:
        raise TrainingError("no parameter learns: give the variant layers or a trainable connector")
    return groups


def largest_loss(model: VisionLanguageModel) -> float:
    """Return the loss beyond which training has diverged: three times that of a uniform guess.

    In nats; a uniform guess over a vocabulary of V tokens has the loss ln V.
    """
    head = unwrapped(model.language_model).get_output_embeddings()
    return WORSE_THAN_CHANCE * math.log(head.weight.shape[0])


def train(
    model: VisionLanguageModel,
    batches: Batches | DividedBatches,
    settings: Optimisation,
    *,
    what: str,
    rates: Rates,
    runtime: Runtime,
    checkpoints: Checkpoints | None = None,
    live: Live | None = None,
) -> list[Record]:
    """Train in place, one optimiser step a batch, and return the log.

    A batch may be computed in parts, one after the other (`settings.accumulate`) and side by side
    (the processes of `runtime`). Every part's gradient is weighed by its share of the batch's
    answer tokens, so that the step is that of the whole batch, however it is divided.

    Args:
        model: the parameters that require gradients learn; it is placed on the runtime's devices.
        batches: `settings.steps` batches with labels, by their step.
        settings: schedule, decay, clipping, parts.
        what: names the run in progress lines and errors.
        rates: peak learning rates.
        runtime: devices and processes.
        checkpoints: where the run is kept and goes on from; None keeps nothing.
        live: shows the run as it goes.

    Raises:
        DivergenceError: the loss or the gradient is not finite, or the loss passes `largest_loss`;
            the weights are those before that step.
        TrainingError: nothing in the model learns, or a checkpoint is of another run.
        Interrupted: an end is asked for; the state after the last step is kept.
    """
    limit = largest_loss(model)
    runtime.place(model)
    if settings.gradient_checkpointing:
        model.recompute_blocks()
    optimiser = runtime.optimiser(parameter_groups(model, settings, rates))
    learning = [p for group in optimiser.param_groups for p in group["params"]]
    # Dropout is a method's own affair: the base model has none, PEFT layers follow this switch.
    model.train()
    first = 0
    kept: list[dict[str, Any]] = []
    if checkpoints is not None:
        first, kept = checkpoints.restore(model, optimiser, runtime)
    records = [Record(**record) for record in kept]
    label = f"{what}: step"
    if first:
        print(f"{what}: goes on at step {first}", file=sys.stderr, flush=True)
        label += f" {first} +"
    live = live or Live(what)
    live.start()
    with Progress(settings.steps - first, label) as progress:
        for step in range(first, settings.steps):
            factor = schedule(step, settings.steps, settings.warmup)
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            loss, tokens, answer_tokens = _gradients(model, batches, step, settings, runtime)
            norm, overflow = runtime.step(optimiser, learning, settings.clip_norm)
            record = Record(
                step=step,
                loss=loss,
                learning_rate=rates.language_model * factor,
                connector_learning_rate=rates.connector * factor,
                vision_learning_rate=rates.vision * factor,
                gradient_norm=norm,
                tokens=tokens,
                answer_tokens=answer_tokens,
            )
            _check(record, limit, what, overflow=overflow)
            runtime.finish(optimiser)
            records.append(record)
            live.add(records)
            stop = runtime.any(interruption.requested())
            if checkpoints is not None and (stop or runtime.any(checkpoints.due)):
                done = [vars(record) for record in records]
                checkpoints.save(step + 1, model, optimiser, done, runtime)
            if stop:
                interruption.stop(what, f"step {step + 1}", kept=checkpoints is not None)
            progress.advance(note=f"loss {record.loss:.2f}")
    live.close(records)
    model.eval()
    if settings.gradient_checkpointing:
        unwrapped(model.language_model).gradient_checkpointing_disable()
    return records


def _gradients(
    model: VisionLanguageModel,
    batches: Batches | DividedBatches,
    step: int,
    settings: Optimisation,
    runtime: Runtime,
) -> tuple[float, int, int]:
    """Compute a batch's gradients; return its mean loss, its tokens and its answer tokens."""
    parts = settings.accumulate * runtime.processes
    if parts == 1:
        batch = batches[step]
        loss, count = runtime.loss(batch)
        runtime.backward(loss)
        return float(loss.detach()), int(batch.attention_mask.sum()), count
    mine = [
        batches.part(step, index * runtime.processes + runtime.process, parts)  # type: ignore[union-attr]
        for index in range(settings.accumulate)
    ]
    answers = [_answer_tokens(part) for part in mine]
    tokens = [int(part.attention_mask.sum()) for part in mine]
    total = runtime.total(sum(answers))
    mean = 0.0
    for index, (part, count) in enumerate(zip(mine, answers, strict=True)):
        with runtime.parts(last=index == len(mine) - 1):
            loss, _ = runtime.loss(part)
            # DDP and FSDP take the mean over processes; the batch's loss is a sum over them.
            runtime.backward(loss * (count / total * runtime.processes))
            mean += float(loss.detach()) * count / total
    pictured = any(part.features is not None or part.pixels is not None for part in mine)
    if runtime.sharded and not runtime.any(pictured):
        # Processes that share a model go through connector and encoder in any case. Where no part
        # has a picture they have learned nothing: without a gradient AdamW leaves them alone, as on
        # one device; a gradient of zeros would move them on by their momentum.
        for module in (model.connector, model.vision):
            if module is not None:
                module.zero_grad(set_to_none=True)
    return runtime.total(mean), int(runtime.total(sum(tokens))), int(total)


def _answer_tokens(batch: Batch) -> int:
    if batch.labels is None:
        raise ValueError("the batch has no labels")
    return int((batch.labels[:, 1:] != -100).sum())


def _check(record: Record, limit: float, what: str, *, overflow: bool) -> None:
    if not (math.isfinite(record.loss) and (overflow or math.isfinite(record.gradient_norm))):
        found = f"loss {record.loss}, gradient norm {record.gradient_norm}"
    elif record.loss > limit:
        found = (
            f"loss {record.loss:.4g}, more than {WORSE_THAN_CHANCE:g} times that of guessing "
            f"({limit:.4g}),"
        )
    else:
        return
    raise DivergenceError(
        f"{what}: {found} at step {record.step} with learning rates {record.learning_rate:.3g} "
        f"(language model) and {record.connector_learning_rate:.3g} (connector): training "
        "diverged; lower the learning rates, or warm up for longer",
        step=record.step,
        learning_rate=record.learning_rate,
        connector_learning_rate=record.connector_learning_rate,
    )
