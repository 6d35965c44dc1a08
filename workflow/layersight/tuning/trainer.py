"""The training loop that stage 1 and stage 2 share."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Protocol

import torch

from layersight import interruption
from layersight.data.batch import Batch
from layersight.errors import DivergenceError, TrainingError
from layersight.models.blocks import unwrapped
from layersight.models.vlm import VisionLanguageModel
from layersight.progress import Progress
from layersight.study import Optimisation
from layersight.tuning.checkpoint import Checkpoints

WORSE_THAN_CHANCE = 3.0
"""Training has diverged when its loss is this many times that of guessing uniformly."""


class Batches(Protocol):
    """Batches by their step, such as a list of them."""

    def __getitem__(self, step: int, /) -> Batch: ...


@dataclass(frozen=True)
class Record:
    """One optimiser step, as the training log keeps it."""

    step: int
    loss: float
    learning_rate: float
    connector_learning_rate: float
    gradient_norm: float
    tokens: int
    answer_tokens: int


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
    model: VisionLanguageModel, settings: Optimisation, language_rate: float, connector_rate: float
) -> list[dict[str, object]]:
    """Return AdamW's parameter groups; only matrices decay (as transformers' trainer does).

    Raises:
        TrainingError: nothing in the model learns.
    """
    connector = set() if model.connector is None else set(model.connector.parameters())
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((parameter in connector, parameter.ndim >= 2), []).append(parameter)
    if not groups:
        raise TrainingError("no parameter learns: give the variant layers or a trainable connector")
    return [
        {
            "params": parameters,
            "peak": connector_rate if is_connector else language_rate,
            "lr": 0.0,
            "weight_decay": settings.weight_decay if is_matrix else 0.0,
            "name": "connector" if is_connector else "language_model",
        }
        for (is_connector, is_matrix), parameters in groups.items()
    ]


def largest_loss(model: VisionLanguageModel) -> float:
    """Return the loss beyond which training has diverged: three times that of a uniform guess.

    In nats; a uniform guess over a vocabulary of V tokens has the loss ln V.
    """
    head = unwrapped(model.language_model).get_output_embeddings()
    return WORSE_THAN_CHANCE * math.log(head.weight.shape[0])


def train(
    model: VisionLanguageModel,
    batches: Batches,
    settings: Optimisation,
    *,
    what: str,
    language_rate: float,
    connector_rate: float,
    device: torch.device,
    checkpoints: Checkpoints | None = None,
) -> list[Record]:
    """Train in place, one optimiser step a batch, and return the log.

    Args:
        model: the parameters that require gradients learn.
        batches: `settings.steps` batches with labels, by their step.
        settings: schedule, decay, clipping.
        what: names the run in progress lines and errors.
        language_rate: peak learning rate of the language model's parameters.
        connector_rate: peak learning rate of the connector.
        device: where to compute; the model is there.
        checkpoints: where the run is kept and goes on from; None keeps nothing.

    Raises:
        DivergenceError: the loss or the gradient is not finite, or the loss passes `largest_loss`;
            the weights are those before that step.
        TrainingError: nothing in the model learns.
        Interrupted: an end is asked for; the state after the last step is kept.
    """
    groups = parameter_groups(model, settings, language_rate, connector_rate)
    optimiser = torch.optim.AdamW(groups, fused=True)
    learning = [p for group in optimiser.param_groups for p in group["params"]]
    limit = largest_loss(model)
    # Dropout is a method's own affair: the base model has none, PEFT layers follow this switch.
    model.train()
    first, kept = (0, []) if checkpoints is None else checkpoints.restore(model, optimiser)
    records = [Record(**record) for record in kept]
    label = f"{what}: step"
    if first:
        print(f"{what}: goes on at step {first}", file=sys.stderr, flush=True)
        label += f" {first} +"
    with Progress(settings.steps - first, label) as progress:
        for step in range(first, settings.steps):
            factor = schedule(step, settings.steps, settings.warmup)
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            batch = batches[step]
            loss, answer_tokens = model.loss(batch.to(device))
            if loss.requires_grad:
                loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(learning, settings.clip_norm)
            record = Record(
                step=step,
                loss=float(loss.item()),
                learning_rate=language_rate * factor,
                connector_learning_rate=connector_rate * factor,
                gradient_norm=float(norm.item()),
                tokens=int(batch.attention_mask.sum()),
                answer_tokens=answer_tokens,
            )
            _check(record, limit, what)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            records.append(record)
            if checkpoints is not None and (interruption.requested() or checkpoints.due):
                checkpoints.save(step + 1, model, optimiser, [vars(done) for done in records])
            interruption.stop_if_requested(what, f"step {step + 1}", kept=checkpoints is not None)
            progress.advance(note=f"loss {record.loss:.2f}")
    model.eval()
    return records


def _check(record: Record, limit: float, what: str) -> None:
    if not (math.isfinite(record.loss) and math.isfinite(record.gradient_norm)):
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
