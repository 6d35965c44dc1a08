"""Only the connector learns from the instructions; the language model stays as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from layersight.strict import Strict

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRAINS_CONNECTOR = True
"""Whether stage 2 trains the connector."""


class Options(Strict):
    """Tuning the connector has no settings of its own."""


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    return []


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PreTrainedModel:
    """Freeze the whole language model, whatever `layers` says; the connector goes on learning.

    Every other method but `freeze` trains the connector as well. What separates it from this one is
    what the language model learned.
    """
    language_model.requires_grad_(False)
    return language_model
