"""LoReFT: edits of the ends of the prompt in a subspace of every block (Wu et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import NonNegativeInt, PositiveInt

from layersight.tuning.methods import _steering

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Options(_steering.Edit):
    """The edit h + Rᵀ(W h + b - R h) of block outputs; 2 D rank + rank parameters a block.
    The defaults are those of the paper's commonsense and arithmetic tasks.
    """

    rank: PositiveInt = 8
    """Dimension of the subspace."""
    dropout: _steering.Dropout = 0.0
    """Dropout on the whole edited token, as in pyreft."""
    tokens: Literal["first-last", "all"] = "first-last"
    """Edited tokens of the prompt (all before the first answer, with the image and the template):
    the `first` and the `last` ones, or all."""
    first: NonNegativeInt = 7
    """Tokens at the front of the prompt, for `first-last`."""
    last: NonNegativeInt = 7
    """Tokens at its end, for `first-last`."""


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    return _steering.sizes(options, width, bias=True)


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PeftModel:
    """Freeze the language model and edit the prompt at the outputs of `layers` (None: all).

    Raises:
        TrainingError: there are no such blocks, or the rank is larger than the model's width.
    """
    return _steering.edit(
        language_model,
        options,
        layers,
        dropout=options.dropout,
        dropout_on="output",
        stream="prompt",
    )
