"""Which modules of a language model an adapter wraps, by the names that model families use."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from torch import nn

from layersight.errors import TrainingError

KEYS_AND_VALUES = ("k_proj", "v_proj")
QUERIES_KEYS_VALUES = ("q_proj", "k_proj", "v_proj")
INTO_MLP = ("gate_proj", "up_proj", "fc1", "dense_h_to_4h", "fc_in")
OUT_OF_MLP = ("down_proj", "fc2", "dense_4h_to_h", "fc_out")


def linear_names(blocks: nn.ModuleList) -> list[str]:
    """Return the last part of the name of every linear layer of some blocks, sorted."""
    return sorted(
        {
            name.rpartition(".")[2]
            for block in blocks
            for name, module in block.named_modules()
            if isinstance(module, nn.Linear)
        }
    )


def linears(
    blocks: nn.ModuleList, wanted: Sequence[str] | None, family: Sequence[str], option: str
) -> list[str]:
    """Return the names of the linear layers to adapt.

    Args:
        blocks: of the language model.
        wanted: names that the user gives; None takes those of `family` that the blocks have.
        family: names that model families use for the layers that are meant.
        option: names the user's option in errors.

    Raises:
        TrainingError: one that is wanted is missing, or all of the family's are.
    """
    known = linear_names(blocks)
    if wanted is None:
        found = [name for name in family if name in known]
        if not found:
            raise TrainingError(
                f"options.{option}: this language model has none of {', '.join(family)}; name some "
                f"of its linear layers: {', '.join(known)}"
            )
        return found
    for name in wanted:
        if name not in known:
            raise TrainingError(
                f"options.{option}: {name} is no linear layer of this language model's blocks; it "
                f"has {', '.join(known)}"
            )
    return list(wanted)


def outputs(blocks: nn.ModuleList, names: Collection[str]) -> dict[str, int]:
    """Return the number of outputs of the linear layers with these names."""
    return {
        name.rpartition(".")[2]: module.out_features
        for block in blocks
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in names
    }


def check_rank(rank: int, width: int) -> None:
    """Make sure that a subspace fits into the residual stream.

    Raises:
        TrainingError: it does not.
    """
    if rank > width:
        raise TrainingError(f"options.rank: {rank} is more than the model's width, {width}")


def full_names(
    model: nn.Module, blocks: nn.ModuleList, layers: Sequence[int], names: Sequence[str]
) -> list[str]:
    """Return the full names of the modules of some blocks whose last part is one of `names`."""
    root = _root(model, blocks)
    return [
        f"{root}.{layer}.{name}"
        for layer in layers
        for name, _ in blocks[layer].named_modules()
        if name.rpartition(".")[2] in names
    ]


def block_pattern(model: nn.Module, blocks: nn.ModuleList, layers: Sequence[int]) -> str:
    """Return the regular expression that names just these blocks."""
    return rf"{re.escape(_root(model, blocks))}\.({'|'.join(str(layer) for layer in layers)})"


def chosen_layers(
    blocks: nn.ModuleList, layers: tuple[int, int] | None, every: int = 1
) -> list[int]:
    """Return the blocks of the range [a, b) (None: all), from its first on every so many."""
    start, stop = (0, len(blocks)) if layers is None else layers
    return list(range(start, stop, every))


def _root(model: nn.Module, blocks: nn.ModuleList) -> str:
    return next(name for name, module in model.named_modules() if module is blocks)
