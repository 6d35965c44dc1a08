"""Low-rank adaptation (Hu et al. 2022), through PEFT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Options(Strict):
    """Settings of LoRA, named as PEFT names them; r · (inputs + outputs) parameters a layer."""

    r: PositiveInt = 16
    """Rank of the update; at most the smaller side of a linear layer."""
    lora_alpha: PositiveInt = 32
    """The update is scaled by lora_alpha / r."""
    lora_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout on the adapter's input."""
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None
    """Linear layers that get an update; null means all of a block's."""


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    names = linear if options.target_modules is None else options.target_modules
    return [options.r * size for name in names if name in linear for size in linear[name]]


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PeftModel:
    """Freeze the language model and add low-rank updates to the blocks `layers` (None: all).

    The updates start as zeros: the model is the same at the start.

    Raises:
        TrainingError: the blocks have no such linear layers, or one is narrower than the rank.
    """
    from peft import LoraConfig, get_peft_model

    from layersight.adapters.targets import Targets

    blocks = Targets(language_model, layers)
    names = blocks.linears(options.target_modules, None, "target_modules")
    blocks.check_widths(options.r, names, "r")
    config = LoraConfig(
        r=options.r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=blocks.pattern(names),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)
