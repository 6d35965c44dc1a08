"""Where the parts of a causal language model are, by family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from layersight.errors import AssetError


@dataclass(frozen=True)
class _Family:
    """Attribute paths: of the blocks and the final norm in the model, of the others in a block.

    Attributes:
        names: families that are built so.
        blocks: the list of blocks.
        norm: the norm between the last block and the head.
        attention: the module whose output attention adds to the residual stream.
        projection: the linear map of the heads' outputs, next to each other, to the residual.
        mlp: the module whose output the feed-forward part adds.
    """

    names: str
    blocks: str
    norm: str
    attention: str
    projection: str
    mlp: str


_LAYERS = "model.layers"
_FAMILIES = (
    _Family(
        "Llama, Mistral, Qwen2, Qwen3, Gemma",
        _LAYERS, "model.norm", "self_attn", "self_attn.o_proj", "mlp",
    ),
    _Family("Phi", _LAYERS, "model.final_layernorm", "self_attn", "self_attn.dense", "mlp"),
    _Family(
        "OPT",
        "model.decoder.layers", "model.decoder.final_layer_norm",
        "self_attn", "self_attn.out_proj", "fc2",
    ),
    _Family("GPT-2", "transformer.h", "transformer.ln_f", "attn", "attn.c_proj", "mlp"),
    _Family(
        "GPT-NeoX",
        "gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", "attention.dense", "mlp",
    ),
)  # fmt: skip
_KNOWN = ", ".join(family.names for family in _FAMILIES)
# Between the blocks and the head of an OPT whose embeddings are narrower than its blocks.
_PROJECTION_OUT = "model.decoder.project_out"


@dataclass(frozen=True)
class BlockParts:
    """Modules of one block.

    Attributes:
        attention: its output (the first of a tuple) is what attention adds to the residual stream.
        projection: its input is the heads' outputs, one beside the other; its output is
            attention's.
        mlp: its output is what the feed-forward part adds; of OPT it comes as `(tokens, width)`.
    """

    attention: nn.Module
    projection: nn.Module
    mlp: nn.Module


def unwrapped(language_model: nn.Module) -> Any:
    """Return the Hugging Face model inside a PEFT wrapper, or the model itself."""
    inner = getattr(language_model, "get_base_model", None)
    return inner() if callable(inner) else language_model


def decoder_blocks(language_model: nn.Module) -> nn.ModuleList:
    """Return the blocks 0..L-1 in order.

    Raises:
        AssetError: a family whose blocks are not where any known family has them.
    """
    model = unwrapped(language_model)
    for family in _FAMILIES:
        found = _at(model, family.blocks)
        if isinstance(found, nn.ModuleList) and len(found):
            return found
    raise _unknown(model, "blocks")


def final_norm(language_model: nn.Module) -> nn.Module:
    """Return what lies between the last block and the head.

    That is the final norm; nothing (an identity) for an OPT without one; and for an OPT whose
    embeddings are narrower than its blocks also the map to their width.

    Raises:
        AssetError: a family whose final norm is not where any known family has it.
    """
    model = unwrapped(language_model)
    for family in _FAMILIES:
        parent, _, name = family.norm.rpartition(".")
        holder = _at(model, parent)
        if holder is None or not hasattr(holder, name):
            continue
        found = [part for part in (_at(model, family.norm), _at(model, _PROJECTION_OUT)) if part]
        return found[0] if len(found) == 1 else nn.Sequential(*found)
    raise _unknown(model, "final norm")


def block_parts(language_model: nn.Module) -> list[BlockParts]:
    """Return attention, its output projection and the feed-forward part of every block, in order.

    Raises:
        AssetError: a family that has them where no known family has them.
    """
    model = unwrapped(language_model)
    blocks = decoder_blocks(model)
    for family in _FAMILIES:
        if _at(model, family.blocks) is not blocks:
            continue
        found = [
            tuple(_at(block, path) for path in (family.attention, family.projection, family.mlp))
            for block in blocks
        ]
        parts = [BlockParts(*three) for three in found if None not in three]  # type: ignore[arg-type]
        if len(parts) == len(blocks):
            return parts
    raise _unknown(model, "attention or feed-forward part")


def _at(root: nn.Module, path: str) -> nn.Module | None:
    current: object = root
    for part in path.split("."):
        current = getattr(current, part, None)
    return current if isinstance(current, nn.Module) else None


def _unknown(model: nn.Module, what: str) -> AssetError:
    return AssetError(
        f"the language model is a {type(model).__name__}, and where such a model has its {what} is "
        f"not known; known are models built as {_KNOWN}"
    )
