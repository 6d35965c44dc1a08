"""Full fine-tuning: the language model's own parameters learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from layersight.strict import Strict

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Options(Strict):
    """Full fine-tuning has no settings of its own."""


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PreTrainedModel:
    """Let the whole language model learn, or only the blocks `layers`.

    Without a choice of blocks the embeddings, the final norm and the head learn as well; with one,
    nothing outside these blocks does.

    Raises:
        TrainingError: the language model has no such blocks.
    """
    from layersight.adapters.targets import Targets

    language_model.requires_grad_(layers is None)
    if layers is not None:
        for _, module in Targets(language_model, layers).modules():
            module.requires_grad_(True)
    return language_model
