"""Which modules of a language model an adapter wraps, by the names that model families use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from torch import nn

from layersight.errors import TrainingError
from layersight.layers import named
from layersight.models.blocks import decoder_blocks, unwrapped

KEYS_AND_VALUES = ("k_proj", "v_proj")
QUERIES_KEYS_VALUES = ("q_proj", "k_proj", "v_proj")
INTO_MLP = ("gate_proj", "up_proj", "fc1", "dense_h_to_4h", "fc_in")
OUT_OF_MLP = ("down_proj", "fc2", "dense_4h_to_h", "fc_out")


class Targets:
    """The blocks of a language model that a method acts on, and what is in them.

    Args:
        model: the language model.
        layers: indices of its blocks; None means all.

    Attributes:
        layers: the indices, in order.
        root: full name of the model's list of blocks.

    Raises:
        TrainingError: `layers` names no block, or one that the model does not have.
    """

    def __init__(self, model: nn.Module, layers: Sequence[int] | None) -> None:
        self._blocks = decoder_blocks(model)
        total = len(self._blocks)
        self.layers = list(range(total)) if layers is None else sorted(set(layers))
        if not self.layers:
            raise TrainingError("layers: names no block, so nothing would learn")
        for layer in self.layers:
            if not 0 <= layer < total:
                raise TrainingError(
                    f"layers: the language model has no block {layer}; its blocks are [0, {total})"
                )
        self.root = next(
            name for name, module in unwrapped(model).named_modules() if module is self._blocks
        )

    def modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield every module of the blocks and its name inside its block."""
        for layer in self.layers:
            yield from self._blocks[layer].named_modules()

    def linear_layers(self) -> Iterator[tuple[str, nn.Linear]]:
        """Yield every linear layer of the blocks and the last part of its name."""
        for name, module in self.modules():
            if isinstance(module, nn.Linear):
                yield name.rpartition(".")[2], module

    def linear_names(self) -> list[str]:
        """Return the last part of the name of every linear layer, sorted."""
        return sorted({name for name, _ in self.linear_layers()})

    def linears(
        self, wanted: Sequence[str] | None, family: Sequence[str] | None, option: str
    ) -> list[str]:
        """Return the names of the linear layers to adapt.

        Args:
            wanted: names that the user gives; None takes those of `family` that the blocks have.
            family: names that model families use for the layers that are meant; None means every
                linear layer.
            option: names the user's option in errors.

        Raises:
            TrainingError: one that is wanted is in none of the blocks, or all of the family's are
                missing.
        """
        known = self.linear_names()
        if wanted is None:
            found = [name for name in known if family is None or name in family]
            if not found:
                raise TrainingError(
                    f"options.{option}: these blocks have none of {', '.join(family or ())}; name "
                    f"some of their linear layers: {', '.join(known)}"
                )
            return found
        for name in wanted:
            if name not in known:
                raise TrainingError(
                    f"options.{option}: {name} is no linear layer of {self}; there are "
                    f"{', '.join(known)}"
                )
        return list(wanted)

    def check_widths(self, rank: int, names: Iterable[str], option: str) -> None:
        """Make sure that a low-rank update of some linear layers is one.

        Raises:
            TrainingError: the rank is above the smaller side of one of them.
        """
        wanted = set(names)
        for name, linear in self.linear_layers():
            if name in wanted and rank > min(linear.in_features, linear.out_features):
                raise TrainingError(
                    f"options.{option}: {rank} is more than {name} can have, "
                    f"{min(linear.in_features, linear.out_features)}: it maps {linear.in_features} "
                    f"to {linear.out_features} numbers"
                )

    def pattern(self, names: Sequence[str] | None = None) -> str:
        """Return the regular expression for the full names of the blocks.

        Args:
            names: ends of the names of modules inside, which it is for instead.
        """
        blocks = rf"{re.escape(self.root)}\.({'|'.join(str(layer) for layer in self.layers)})"
        if names is None:
            return blocks
        return rf"{blocks}\.(.+\.)?({'|'.join(re.escape(name) for name in names)})"

    def __str__(self) -> str:
        if len(self.layers) == len(self._blocks):
            return "this language model's blocks"
        return f"this language model's {named(self.layers)}"


def check_rank(rank: int, width: int) -> None:
    """Make sure that a subspace fits into the residual stream.

    Raises:
        TrainingError: it does not.
    """
    if rank > width:
        raise TrainingError(f"options.rank: {rank} is more than the model's width, {width}")
