"""Full fine-tuning: the language model's own parameters learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layersight.strict import Strict

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Options(Strict):
    """Full fine-tuning has no settings of its own."""


def apply(
    language_model: PreTrainedModel, options: Options, layers: tuple[int, int] | None
) -> PreTrainedModel:
    """Let the whole language model learn, or only the blocks of `layers` = [a, b).

    Without a range the embeddings, the final norm and the head learn as well; with one, nothing
    outside the range does.
    """
    from layersight.models.blocks import decoder_blocks

    language_model.requires_grad_(layers is None)
    if layers is not None:
        for block in decoder_blocks(language_model)[layers[0] : layers[1]]:
            block.requires_grad_(True)
    return language_model
