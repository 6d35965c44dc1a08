"""Which blocks of a language model a variant acts on, as a study writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from layersight.strict import Strict

Range = tuple[int, int]
"""Half-open range [a, b) of blocks."""


class Every(Strict):
    """Every k-th block, from `start` on."""

    every: PositiveInt
    start: NonNegativeInt = 0


Layers = Range | list[Range] | Every | Literal["shallow", "middle", "deep"]
"""A range, several, every k-th block, or a part of the depth: `shallow` is the first half, `deep`
the second, and `middle` the half between the first and the last quarter (Bi et al. 2024, LLaVA
Steering, have blocks 0-15, 16-31 and 8-23 of 32)."""


def chosen_blocks(layers: Layers | None, total: int) -> list[int] | None:
    """Return the blocks that `layers` names, in order; None stands for all of the method's own.

    Args:
        layers: as the study has it.
        total: number of blocks of the language model.

    Raises:
        ValueError: a range is empty or not inside [0, total), two overlap, or no block is chosen.
    """
    if layers is None:
        return None
    if isinstance(layers, Every):
        if layers.start >= total:
            raise ValueError(f"starts at {layers.start}, but the blocks are [0, {total})")
        return list(range(layers.start, total, layers.every))
    if isinstance(layers, str):
        quarter = total // 4
        start, stop = {
            "shallow": (0, total // 2),
            "middle": (quarter, quarter + total // 2),
            "deep": (total // 2, total),
        }[layers]
        return _range(start, stop, total)
    ranges: Sequence[Range] = [layers] if isinstance(layers, tuple) else layers
    blocks = [block for start, stop in ranges for block in _range(start, stop, total)]
    if not blocks:
        raise ValueError("names no range of blocks")
    if len(set(blocks)) < len(blocks):
        raise ValueError("has ranges that overlap")
    return sorted(blocks)


def _range(start: int, stop: int, total: int) -> list[int]:
    if not 0 <= start < stop <= total:
        raise ValueError(
            f"[{start}, {stop}) is not inside [0, {total}), the blocks of the language model"
        )
    return list(range(start, stop))


def runs(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Return the half-open ranges that ordered blocks form, such as [(1, 3), (5, 6)]."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        if found and found[-1][1] == block:
            found[-1] = (found[-1][0], block + 1)
        else:
            found.append((block, block + 1))
    return found


def named(blocks: Sequence[int]) -> str:
    """Return the words for ordered blocks, such as `blocks [1, 3), [5, 6)`."""
    return "blocks " + ", ".join(f"[{start}, {stop})" for start, stop in runs(blocks))
