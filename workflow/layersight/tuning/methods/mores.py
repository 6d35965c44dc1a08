"""MoReS: steering of image tokens in a small subspace of every block (LLaVA Steering, 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from layersight.tuning.methods import _steering

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Options(_steering.Edit):
    """The edit h + R (W h + b - Rᵀh) of block outputs; 2 D rank + rank parameters a block.
    That of the last block counts as the paper counts it, but no answer depends on it: no attention
    reads image tokens behind that block.
    """

    rank: PositiveInt = 1
    """Dimension of the subspace (1, 2 and 4 are the paper's base, large and huge)."""
    bias: bool = True
    """Whether the edit has the bias b, as the paper's parameter counts do."""
    variant: Literal["paper", "code"] = "paper"
    """What dropout acts on: the edit alone (`paper`), or the whole edited token, as the released
    code does (`code`)."""
    dropout: _steering.Dropout | None = None
    """Probability of dropout; null means 0 for `paper` and 0.05 for `code`."""
    tokens: Literal["all", "first-last", "uniform", "ratio"] = "first-last"
    """Steered image tokens: all, the `first` and the `last` ones, `number` evenly spaced ones, or
    the share `ratio` of them, evenly spaced."""
    first: NonNegativeInt = 4
    """Image tokens at the front, for `first-last`."""
    last: NonNegativeInt = 5
    """Image tokens at the end, for `first-last`."""
    number: PositiveInt = 9
    """Image tokens, for `uniform`; a shorter image gives all."""
    ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01
    """Share of the image tokens, for `ratio`; at least one."""
    compat_text_anchor: bool = False
    """In a conversation without an image, steer the last token before the user's own words, as the
    released code does; the paper leaves such conversations alone."""


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    return _steering.sizes(options, width, options.bias)


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PeftModel:
    """Freeze the language model and steer image tokens at the outputs of `layers` (None: all).

    Raises:
        TrainingError: there are no such blocks, or the rank is larger than the model's width.
    """
    code = options.variant == "code"
    dropout = options.dropout if options.dropout is not None else (0.05 if code else 0.0)
    return _steering.edit(
        language_model,
        options,
        layers,
        use_bias=options.bias,
        dropout=dropout,
        dropout_on="output" if code else "update",
        stream="image",
        number=options.number,
        ratio=options.ratio,
        text_anchor=options.compat_text_anchor,
    )
