"""LoReFT: edits of the ends of the prompt in a subspace of every block (Wu et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Options(Strict):
    """The edit h + Rᵀ(W h + b - R h) of block outputs; 2 D rank + rank parameters a block.
    The defaults are those of the paper's commonsense and arithmetic tasks.
    """

    rank: PositiveInt = 8
    """Dimension of the subspace."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout on the whole edited token, as in pyreft."""
    tokens: Literal["first-last", "all"] = "first-last"
    """Edited tokens of the prompt (all before the first answer, with the image and the template):
    the `first` and the `last` ones, or all."""
    first: NonNegativeInt = 7
    """Tokens at the front of the prompt, for `first-last`."""
    last: NonNegativeInt = 7
    """Tokens at its end, for `first-last`."""
    every: PositiveInt = 1
    """Edit every so many blocks of the range, from its first on."""

    @model_validator(mode="after")
    def _some_tokens(self) -> Options:
        if self.tokens == "first-last" and self.first + self.last == 0:
            raise ValueError("first and last are both 0: no token would be edited")
        return self


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    return [width * options.rank, width * options.rank, options.rank]


def apply(
    language_model: PreTrainedModel, options: Options, layers: tuple[int, int] | None
) -> PeftModel:
    """Freeze the language model and edit the prompt at the outputs of `layers` = [a, b).

    Raises:
        TrainingError: the rank is larger than the model's width.
    """
    from peft import get_peft_model

    from layersight.adapters import targets
    from layersight.adapters.steering import SteeringConfig
    from layersight.models.blocks import decoder_blocks

    blocks = decoder_blocks(language_model)
    targets.check_rank(options.rank, int(language_model.config.hidden_size))
    config = SteeringConfig(
        r=options.rank,
        dropout=options.dropout,
        dropout_on="output",
        stream="prompt",
        tokens=options.tokens,
        first=options.first,
        last=options.last,
        target_modules=targets.block_pattern(
            language_model, blocks, targets.chosen_layers(blocks, layers, options.every)
        ),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)
