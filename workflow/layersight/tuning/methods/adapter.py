"""Bottleneck adapters at the MLP (Houlsby et al. 2019), as LLaVA Steering compares with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Options(Strict):
    """Settings of the adapters: L · n · 2D · bottleneck parameters for n linear layers a block.
    Both matrices start from N(0, 0.02²) without bias, as in the published code, so tuning does not
    start from the base model's outputs, but close to them.
    """

    bottleneck: PositiveInt = 256
    """Width inside an adapter."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    """Dropout on an adapter's input."""
    activation: Literal["tanh", "relu", "gelu", "silu"] = "tanh"
    """Non-linearity inside."""
    before: list[str] | None = None
    """Linear layers whose input passes through an adapter; null means those into the MLP."""
    after: list[str] | None = None
    """Linear layers whose output does; null means the one that leads out of the MLP."""

    @model_validator(mode="after")
    def _some_layers(self) -> Options:
        if self.before == [] == self.after:
            raise ValueError("before and after are both empty")
        return self


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    before = ["gate_proj", "up_proj"] if options.before is None else options.before
    after = ["down_proj"] if options.after is None else options.after
    ends = [linear[name][0] for name in before if name in linear]
    ends += [linear[name][1] for name in after if name in linear]
    return [size for end in ends for size in 2 * [options.bottleneck * end]]


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PeftModel:
    """Freeze the language model and add adapters to the blocks `layers` (None: all).

    Raises:
        TrainingError: the blocks have no such linear layers, or one is named twice.
    """
    from peft import get_peft_model

    from layersight.adapters.bottleneck import BottleneckConfig
    from layersight.adapters.targets import INTO_MLP, OUT_OF_MLP, Targets
    from layersight.errors import TrainingError

    blocks = Targets(language_model, layers)
    before = blocks.linears(options.before, INTO_MLP, "before")
    after = blocks.linears(options.after, OUT_OF_MLP, "after")
    both = sorted(set(before) & set(after))
    if both:
        raise TrainingError(f"options.after: {both[0]} stands in options.before as well")
    config = BottleneckConfig(
        bottleneck=options.bottleneck,
        dropout=options.dropout,
        activation=options.activation,
        target_modules=blocks.pattern([*before, *after]),
        after_modules=after,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)
