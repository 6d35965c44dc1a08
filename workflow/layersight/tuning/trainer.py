"""The training loop that stage 1 and stage 2 share."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from layersight.data.batch import Batch
from layersight.errors import TrainingError
from layersight.models.vlm import VisionLanguageModel
from layersight.progress import Progress
from layersight.study import Optimisation


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
    seconds: float


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


def train(
    model: VisionLanguageModel,
    batches: Sequence[Batch] | Iterator[Batch],
    settings: Optimisation,
    *,
    what: str,
    language_rate: float,
    connector_rate: float,
    device: torch.device,
) -> list[Record]:
    """Train in place, one optimiser step a batch, and return the log.

    Args:
        model: the parameters that require gradients learn.
        batches: exactly `settings.steps` batches with labels.
        settings: schedule, decay, clipping.
        what: names the run in progress lines and errors.
        language_rate: peak learning rate of the language model's parameters.
        connector_rate: peak learning rate of the connector.
        device: where to compute.

    Raises:
        TrainingError: the loss or the gradient is not finite; names the step and learning rate.
    """
    groups = parameter_groups(model, settings, language_rate, connector_rate)
    optimiser = torch.optim.AdamW(groups, fused=True)
    learning = [p for group in optimiser.param_groups for p in group["params"]]
    records: list[Record] = []
    # Dropout is a method's own affair: the base model has none, PEFT layers follow this switch.
    model.train()
    with Progress(settings.steps, f"{what}: step") as progress:
        for step, batch in enumerate(batches):
            start = time.monotonic()
            factor = schedule(step, settings.steps, settings.warmup)
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            loss, answer_tokens = model.loss(batch.to(device))
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(learning, settings.clip_norm)
            if not (torch.isfinite(loss) and torch.isfinite(norm)):
                raise TrainingError(
                    f"{what}: loss {loss.item()}, gradient norm {norm.item()} at step {step} with "
                    f"learning rates {language_rate * factor:.3g} (language model) and "
                    f"{connector_rate * factor:.3g} (connector): lower them"
                )
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            records.append(
                Record(
                    step=step,
                    loss=float(loss.item()),
                    learning_rate=language_rate * factor,
                    connector_learning_rate=connector_rate * factor,
                    gradient_norm=float(norm.item()),
                    tokens=int(batch.attention_mask.sum()),
                    answer_tokens=answer_tokens,
                    seconds=time.monotonic() - start,
                )
            )
            progress.advance(note=f"loss {loss.item():.2f}")
    model.eval()
    return records
