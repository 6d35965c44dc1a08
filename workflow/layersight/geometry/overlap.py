"""Which items stay neighbours: between two spaces, within groups, and with respect to labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.geometry.graph_pairs import restricted

Indices = npt.NDArray[np.integer[Any]]
Float64s = npt.NDArray[np.float64]


def neighbourhood_overlap(indices_a: Indices, indices_b: Indices, k: int) -> Float64s:
    """Share of the `k` nearest neighbours that each item keeps from one space to another.

    The mean over items is the neighbourhood overlap chi = 1/(n k) sum_i |N_a(i) & N_b(i)|
    (Doimo et al. 2020, "Hierarchical nucleation in deep neural networks").

    Args:
        indices_a, indices_b: `(n, >= k)` integers, nearest first, without the item itself
            (`Neighbours.indices`); rows are the same items in the same order.
        k: number of neighbours compared.

    Returns:
        `(n,)` float64 between 0 and 1.

    Raises:
        ValueError: when the numbers of rows differ or a table has fewer than `k` columns.
    """
    if len(indices_a) != len(indices_b):
        raise ValueError(
            f"the two spaces hold different numbers of items: {len(indices_a)}, {len(indices_b)}."
        )
    both = np.concatenate([_first_columns(indices_a, k), _first_columns(indices_b, k)], axis=1)
    # No index occurs twice in one neighbourhood, so each shared one makes one equal pair.
    both.sort(axis=1)
    shared: Float64s = np.count_nonzero(both[:, 1:] == both[:, :-1], axis=1) / k
    return shared


def expected_random_overlap(n: int, k: int) -> float:
    """Overlap of two unrelated spaces of `n` items: `k / (n - 1)`.

    A neighbour in one space is among the `k` of the other with this probability.

    Raises:
        ValueError: unless `1 <= k < n`.
    """
    if not 1 <= k < n:
        raise ValueError(f"k is {k}, but {n} items have between 1 and {n - 1} neighbours each.")
    return k / (n - 1)


def derangement(n: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """A uniformly random permutation of `n` items that leaves none in its place.

    Pairing item i with item `derangement[i]` gives pairs that are surely wrong: the random-pair
    control of every measure that compares paired items.

    Returns:
        `(n,)` int.

    Raises:
        ValueError: for `n < 2`, where none exists.
    """
    if n < 2:
        raise ValueError(f"{n} item(s) cannot be paired with one another.")
    # One permutation in e has no fixed point, so rejection is uniform and takes 2.7 draws.
    while True:
        order = rng.permutation(n)
        if not (order == np.arange(n)).any():
            return order


def permuted_neighbours(indices: Indices, order: npt.NDArray[np.intp]) -> Indices:
    """Neighbours after the rows of the space were permuted, without a new search.

    Args:
        indices: `(n, k)` neighbours of the vectors `x`.
        order: `(n,)` a permutation.

    Returns:
        `(n, k)` neighbours of the vectors `x[order]`.
    """
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    moved: Indices = place[indices[order]]
    return moved


def random_pair_overlap(
    indices_a: Indices, indices_b: Indices, k: int, rng: np.random.Generator
) -> Float64s:
    """Neighbourhood overlap after each item was paired with a wrong one (see `derangement`).

    The rows of the second space are permuted; its shape as a cloud stays what it is. The mean
    lies near `expected_random_overlap(n, k)`.

    Returns and raises as `neighbourhood_overlap`.
    """
    order = derangement(len(indices_b), rng)
    return neighbourhood_overlap(indices_a, permuted_neighbours(indices_b, order), k)


@dataclass(frozen=True)
class WithinGroupOverlap:
    """Neighbourhood overlap among items of one group.

    Attributes:
        paired: `(n,)` float64, NaN for items of groups left out or unknown.
        random_pairs: `(n,)` float64, the same with items paired wrongly inside their group.
        groups_left_out: number of groups with fewer than `k + 2` items.
        items_left_out: number of items in them.
        items_unknown: number of items in groups with a list of neighbours that holds fewer than
            `k` of the group, so that the nearest in the group are not known.
    """

    paired: Float64s
    random_pairs: Float64s
    groups_left_out: int
    items_left_out: int
    items_unknown: int


def overlap_within_groups(
    indices_a: Indices,
    indices_b: Indices,
    groups: npt.NDArray[Any],
    k: int,
    *,
    rng: np.random.Generator,
) -> WithinGroupOverlap:
    """Neighbourhood overlap with neighbours among items of the same group only.

    Two spaces that separate the same groups overlap even if they share nothing else. Inside a
    group that is impossible: what overlap is left there comes from the items themselves. Groups
    with fewer than `k + 2` items are left out, because with `k + 1` items the `k` neighbours are
    the whole group and overlap by necessity; so `k` is below the size of every group less one.
    An unrelated pair of spaces gives `expected_random_overlap(group size, k)`.

    The nearest of a group are what is left of a list of neighbours when all others are struck.

    Args:
        indices_a, indices_b: `(n, columns)` neighbours of all items, nearest first, the same items
            in the same order.
        groups: `(n,)` labels of any type that sorts.
        k: number of neighbours.
        rng: draws the random pairs.

    Raises:
        ValueError: when the numbers of items differ, or for a `k` below 1.
    """
    n = len(groups)
    if len(indices_a) != n or len(indices_b) != n:
        raise ValueError(
            f"{len(indices_a)} and {len(indices_b)} items do not match {n} group labels."
        )
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1.")
    paired, random_pairs = np.full(n, np.nan), np.full(n, np.nan)
    groups_left_out = items_left_out = items_unknown = 0
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        if len(members) < k + 2:
            groups_left_out += 1
            items_left_out += len(members)
            continue
        a, b = restricted(indices_a, members), restricted(indices_b, members)
        if min(a.shape[1], b.shape[1]) < k:
            items_unknown += len(members)
            continue
        paired[members] = neighbourhood_overlap(a, b, k)
        random_pairs[members] = random_pair_overlap(a, b, k, rng)
    return WithinGroupOverlap(paired, random_pairs, groups_left_out, items_left_out, items_unknown)


def label_overlap(
    indices: Indices, labels: npt.NDArray[Any], k: int, *, class_weighted: bool = False
) -> Float64s:
    """Share of the `k` nearest neighbours that carry the label of the item.

    Doimo et al. 2020, with the ground truth as second space.

    Args:
        indices: `(n, >= k)` neighbours, nearest first, without the item itself.
        labels: `(n,)`.
        k: number of neighbours.
        class_weighted: multiply by `class_weights(labels)`, so that the mean over items becomes
            the mean of the class means (and a single value may pass 1).

    Returns:
        `(n,)` float64.

    Raises:
        ValueError: when labels and rows differ in number or there are fewer than `k` columns.
    """
    if len(labels) != len(indices):
        raise ValueError(f"{len(labels)} labels do not match {len(indices)} items.")
    same = labels[_first_columns(indices, k)] == labels[:, np.newaxis]
    share: Float64s = np.count_nonzero(same, axis=1) / k
    return share * class_weights(labels) if class_weighted else share


def class_weights(labels: npt.NDArray[Any]) -> Float64s:
    """Weights inverse to the size of each item's class, with mean 1.

    Returns:
        `(n,)` float64, `n / (classes * size of the class)`.
    """
    _, which, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    weights: Float64s = len(labels) / (len(sizes) * sizes[which])
    return weights


def _first_columns(indices: Indices, k: int) -> Indices:
    if indices.ndim != 2 or not 1 <= k <= indices.shape[1]:
        raise ValueError(
            f"k is {k}, but the table of neighbours has shape {indices.shape}; "
            "it needs at least k columns, and k at least 1."
        )
    return indices[:, :k]
