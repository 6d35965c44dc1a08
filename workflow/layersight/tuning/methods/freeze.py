"""The control: nothing learns, neither the language model nor the connector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from layersight.strict import Strict

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRAINS_CONNECTOR = False
"""Whether stage 2 trains the connector; a method that does not say lets it learn."""


class Options(Strict):
    """Freezing has no settings of its own."""


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    return []


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PreTrainedModel:
    """Let nothing learn, whatever `layers` says: the subject is the aligned backbone, bit for bit.

    What separates another variant from this one is all that its stage 2 did. To let the connector
    alone learn, see the method `connector`.
    """
    language_model.requires_grad_(False)
    return language_model
