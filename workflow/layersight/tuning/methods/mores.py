"""MoReS: steering of image tokens in a small subspace of every block (LLaVA Steering, 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Options(Strict):
    """The edit h + R (W h + b - Rᵀh) of block outputs; 2 D rank + rank parameters a block."""

    rank: PositiveInt = 1
    """Dimension of the subspace (1, 2 and 4 are the paper's base, large and huge)."""
    bias: bool = True
    """Whether the edit has the bias b, as the paper's parameter counts do."""
    variant: Literal["paper", "code"] = "paper"
    """What dropout acts on: the edit alone (`paper`), or the whole edited token, as the released
    code does (`code`)."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
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
    every: PositiveInt = 1
    """Steer every so many blocks of the range, from its first on."""
    compat_text_anchor: bool = False
    """In a conversation without an image, steer the last token before the user's own words, as the
    released code does; the paper leaves such conversations alone."""

    @model_validator(mode="after")
    def _some_tokens(self) -> Options:
        if self.tokens == "first-last" and self.first + self.last == 0:
            raise ValueError("first and last are both 0: no token would be steered")
        return self


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    return [width * options.rank, width * options.rank, options.rank * options.bias]


def apply(
    language_model: PreTrainedModel, options: Options, layers: tuple[int, int] | None
) -> PeftModel:
    """Freeze the language model and steer image tokens at the outputs of `layers` = [a, b).

    Raises:
        TrainingError: the rank is larger than the model's width.
    """
    from peft import get_peft_model

    from layersight.adapters import targets
    from layersight.adapters.steering import SteeringConfig
    from layersight.models.blocks import decoder_blocks

    blocks = decoder_blocks(language_model)
    targets.check_rank(options.rank, int(language_model.config.hidden_size))
    code = options.variant == "code"
    dropout = options.dropout if options.dropout is not None else (0.05 if code else 0.0)
    config = SteeringConfig(
        r=options.rank,
        use_bias=options.bias,
        dropout=dropout,
        dropout_on="output" if code else "update",
        stream="image",
        tokens=options.tokens,
        first=options.first,
        last=options.last,
        number=options.number,
        ratio=options.ratio,
        text_anchor=options.compat_text_anchor,
        target_modules=targets.block_pattern(
            language_model, blocks, targets.chosen_layers(blocks, layers, options.every)
        ),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)
