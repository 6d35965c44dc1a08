"""LoRA on a base model in 4-bit NormalFloat (QLoRA, Dettmers et al. 2023), through bitsandbytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from layersight.tuning.methods import lora

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import BitsAndBytesConfig, PreTrainedModel


class Options(lora.Options):
    """Settings of LoRA, and how its base model is stored: every linear layer of the blocks in
    4-bit NormalFloat (NF4), embeddings, norms and head as they are. Needs the package bitsandbytes.
    The paper's runs have r 64, lora_alpha 16 and lora_dropout 0.1 (0.05 above 13B parameters).
    """

    double_quantization: bool = True
    """Whether the scales of the 4-bit numbers are quantised in turn, as in the paper."""


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    return lora.tensors(options, linear, width)


def quantization(
    options: Options, *, dtype: torch.dtype, device: torch.device
) -> BitsAndBytesConfig:
    """Return how transformers has to load the base model, for training and for measuring.

    Args:
        options: the method's.
        dtype: type that products are computed in.
        device: where the model will run.

    Raises:
        TrainingError: bitsandbytes is not installed, or cannot quantise on this device.
    """
    from transformers import BitsAndBytesConfig

    _check_quantises(device)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=options.double_quantization,
        bnb_4bit_compute_dtype=dtype,
    )


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PeftModel:
    """Add low-rank updates to the blocks `layers` (None: all) of a model loaded in four bits.

    Raises:
        ValueError: the model was not loaded as `quantization` says.
        TrainingError: the blocks have no such linear layers, or one is narrower than the rank.
    """
    if not getattr(language_model, "is_loaded_in_4bit", False):
        raise ValueError("qlora needs a base model loaded with qlora.quantization(...)")
    return lora.apply(language_model, options, layers)


def _check_quantises(device: torch.device) -> None:
    import torch

    from layersight.errors import TrainingError

    try:
        from bitsandbytes import functional
    except ImportError as error:
        raise TrainingError(
            f"method qlora needs the package bitsandbytes, which cannot be imported ({error}): "
            "pip install bitsandbytes, or choose the method lora"
        ) from None
    try:
        numbers = torch.linspace(-1.0, 1.0, 64, device=device)
        packed, state = functional.quantize_4bit(numbers, quant_type="nf4")
        wrong = float((functional.dequantize_4bit(packed, state) - numbers).abs().max())
    except Exception as error:  # its backends raise whatever their libraries do
        raise TrainingError(
            f"method qlora: bitsandbytes cannot quantise on the device {device} ({error}); choose "
            "another device or the method lora"
        ) from None
    if not wrong < 0.2:  # NF4's values lie up to 0.3 apart
        raise TrainingError(
            f"method qlora: bitsandbytes gives wrong numbers on the device {device}; choose "
            "another device or the method lora"
        )
