"""What MoReS and LoReFT share: low-rank edits of block outputs at chosen tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

Dropout = Annotated[float, Field(ge=0.0, lt=1.0)]


class Edit(Strict):
    """Settings of every edit; a method says what they are by default."""

    rank: PositiveInt
    """Dimension of the subspace; at most the model's width."""
    tokens: str
    """Edited tokens."""
    first: NonNegativeInt
    """Tokens at the front, for `first-last`."""
    last: NonNegativeInt
    """Tokens at the end, for `first-last`."""

    @model_validator(mode="after")
    def _some_tokens(self) -> Edit:
        if self.tokens == "first-last" and self.first + self.last == 0:
            raise ValueError("first and last are both 0: no token would be edited")
        return self


def sizes(options: Edit, width: int, bias: bool) -> list[int]:
    """Return the sizes of the tensors that learn in a block: R, W and the bias."""
    return [width * options.rank, width * options.rank, options.rank * bias]


def edit(
    language_model: PreTrainedModel, options: Edit, layers: Sequence[int] | None, **settings: Any
) -> PeftModel:
    """Freeze the language model and edit the outputs of the blocks `layers` (None: all).

    Args:
        language_model: the language model.
        options: rank and tokens.
        layers: indices of blocks.
        settings: further ones of `layersight.adapters.steering.SteeringConfig`.

    Raises:
        TrainingError: there are no such blocks, or the rank is larger than the model's width.
    """
    from peft import get_peft_model

    from layersight.adapters.steering import SteeringConfig
    from layersight.adapters.targets import Targets, check_rank

    check_rank(options.rank, int(language_model.config.hidden_size))
    config = SteeringConfig(
        r=options.rank,
        tokens=options.tokens,
        first=options.first,
        last=options.last,
        target_modules=Targets(language_model, layers).pattern(),
        task_type="CAUSAL_LM",
        **settings,
    )
    return get_peft_model(language_model, config)
