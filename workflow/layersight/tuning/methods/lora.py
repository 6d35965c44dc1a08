"""Low-rank adaptation (Hu et al. 2022), through PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Options(Strict):
    """Settings of LoRA, named as PEFT names them."""

    r: PositiveInt = 16
    """Rank of the update."""
    lora_alpha: PositiveInt = 32
    """The update is scaled by lora_alpha / r."""
    lora_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Dropout on the adapter's input."""
    target_modules: list[str] = [
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    ]  # fmt: skip
    """Linear layers that get an update."""


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    known = [linear[name] for name in options.target_modules if name in linear]
    return [options.r * size for sizes in known for size in sizes]


def apply(
    language_model: PreTrainedModel, options: Options, layers: tuple[int, int] | None
) -> PeftModel:
    """Freeze the language model and add low-rank updates to the blocks of `layers` = [a, b)."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=list(options.target_modules),
        layers_to_transform=None if layers is None else list(range(*layers)),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)
