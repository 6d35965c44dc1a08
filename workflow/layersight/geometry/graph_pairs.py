"""Two neighbour graphs of the same items, read as one: which items both have, and their lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.geometry.graph import NeighbourGraph
from layersight.geometry.neighbours import NeighboursError

Ids = npt.NDArray[Any]
Indices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class MatchedNeighbours:
    """Neighbours of the items that take part in both graphs, sought among those items only.

    Attributes:
        item_ids: `(m,)` str, in the order of the first graph.
        in_a, in_b: `(m, width_a)` and `(m, width_b)` int32, positions in `item_ids`, nearest first.
            As wide as the shortest list: no item lacks a neighbour.
    """

    item_ids: Ids
    in_a: Indices
    in_b: Indices

    @property
    def width(self) -> int:
        """The largest k that can be compared."""
        return min(self.in_a.shape[1], self.in_b.shape[1])


def matched_neighbours(a: NeighbourGraph, b: NeighbourGraph) -> MatchedNeighbours:
    """Restrict two graphs to the items that take part in both, matched by id.

    The neighbours of a point among fewer points are what is left of its list, in the same order:
    exact, and nothing is searched. Lists get shorter by what the other graph leaves out, so that
    graphs need more neighbours than the largest k that is compared.

    Of items that share a vector, in either space, the first in the order of `a` takes part.

    Args:
        a, b: graphs of the same items in any order.

    Raises:
        NeighboursError: the graphs hold different items, or an item twice.
    """
    row_in_b = {item: row for row, item in enumerate(b.item_ids.tolist())}
    names = a.item_ids.tolist()
    if len(row_in_b) != len(b.item_ids) or len(set(names)) != len(names):
        raise NeighboursError("an item id occurs twice, so that items cannot be paired.")
    missing, extra = set(names) - row_in_b.keys(), row_in_b.keys() - set(names)
    if missing or extra:
        raise NeighboursError(
            f"the two graphs hold different items: {len(missing)} only on the first, {len(extra)} "
            f"only on the second (for example {min(missing | extra)!r})."
        )
    position_in_b = np.full(len(b.item_ids), -1)
    position_in_b[b.rows] = np.arange(len(b.rows))
    vector_in_b = b.copy_of[[row_in_b[item] for item in names]]
    first = np.zeros(len(names), dtype=np.bool_)
    first[np.unique(vector_in_b, return_index=True)[1]] = True
    theirs = np.where(first, position_in_b[vector_in_b], -1)[a.rows]
    both = theirs >= 0
    theirs = theirs[both]
    return MatchedNeighbours(
        item_ids=a.kept_ids[both],
        in_a=restricted(a.indices, np.flatnonzero(both)),
        in_b=restricted(b.indices, theirs),
    )


def paired_neighbour_tables(a: NeighbourGraph, b: NeighbourGraph) -> tuple[Ids, Indices, Indices]:
    """Return the neighbour tables of two graphs for the items that take part in both.

    Args:
        a, b: graphs of the same items in any order.

    Returns:
        Item ids `(m,)`, and the neighbours of each in `a` `(m, width_a)` and in `b`
        `(m, width_b)`, positions in the ids, nearest first, see `matched_neighbours`.

    Raises:
        NeighboursError: as `matched_neighbours`.
    """
    both = matched_neighbours(a, b)
    return both.item_ids, both.in_a, both.in_b


def restricted(
    indices: npt.NDArray[np.integer[Any]], chosen: npt.NDArray[np.integer[Any]]
) -> Indices:
    """Neighbours of some points among those points, renumbered.

    Args:
        indices: `(m, k)` neighbours of all points, nearest first.
        chosen: `(c,)` distinct points, in the order in which they are to be numbered.

    Returns:
        `(c, width)` int32, positions in `chosen`, nearest first, as wide as the shortest list.
    """
    number = np.full(len(indices), -1, dtype=np.int32)
    number[chosen] = np.arange(len(chosen), dtype=np.int32)
    left = number[indices[chosen]]
    there = left >= 0
    if there.all():
        return left
    width = int(there.sum(axis=1).min()) if len(left) else 0
    order = np.argsort(~there, axis=1, kind="stable")[:, :width]
    kept: Indices = np.take_along_axis(left, order, axis=1)
    return kept
