"""Where the parts of a causal language model are, by family."""

from __future__ import annotations

from typing import Any

from torch import nn

# Attribute paths of the list of blocks and of the final norm inside Hugging Face's causal models.
_BLOCKS = (
    "model.layers",
    "model.decoder.layers",
    "transformer.h",
    "gpt_neox.layers",
)
_FINAL_NORMS = (
    "model.norm",
    "model.final_layernorm",
    "model.decoder.final_layer_norm",
    "transformer.ln_f",
    "gpt_neox.final_layer_norm",
)


def unwrapped(language_model: nn.Module) -> Any:
    """Return the Hugging Face model inside a PEFT wrapper, or the model itself."""
    inner = getattr(language_model, "get_base_model", None)
    return inner() if callable(inner) else language_model


def decoder_blocks(language_model: nn.Module) -> nn.ModuleList:
    """Return the blocks 0..L-1 in order.

    Raises:
        TypeError: a family whose blocks are not where any known family has them.
    """
    found = _first(unwrapped(language_model), _BLOCKS)
    if not isinstance(found, nn.ModuleList):
        raise TypeError(f"no list of blocks known for {type(unwrapped(language_model)).__name__}")
    return found


def final_norm(language_model: nn.Module) -> nn.Module:
    """Return the norm between the last block and the head.

    Raises:
        TypeError: a family whose final norm is not where any known family has it.
    """
    found = _first(unwrapped(language_model), _FINAL_NORMS)
    if found is None:
        raise TypeError(f"no final norm known for {type(unwrapped(language_model)).__name__}")
    return found


def _first(root: nn.Module, paths: tuple[str, ...]) -> nn.Module | None:
    for path in paths:
        current: object = root
        for part in path.split("."):
            current = getattr(current, part, None)
        if isinstance(current, nn.Module):
            return current
    return None
