"""Overlaps of neighbourhoods and of labels, for a whole range of k in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.integer[Any]]
Float64s = npt.NDArray[np.float64]


def overlap_curve(indices_a: Indices, indices_b: Indices, ks: Sequence[int]) -> Float64s:
    """Share of the `k` nearest neighbours that each item keeps, for every k.

    Column j is `overlap.neighbourhood_overlap(indices_a, indices_b, ks[j])`. A neighbour at rank p
    in one space and q in the other is shared from k = max(p, q) on.

    Args:
        indices_a, indices_b: `(n, >= max(ks))` integers, nearest first, without the item itself;
            rows are the same items in the same order.
        ks: numbers of neighbours.

    Returns:
        `(n, len(ks))` float64 between 0 and 1.

    Raises:
        ValueError: when the numbers of rows differ, or a k is below 1 or above the columns.
    """
    if len(indices_a) != len(indices_b):
        raise ValueError(
            f"the two spaces hold different numbers of items: {len(indices_a)}, {len(indices_b)}."
        )
    last = _last(ks, min(indices_a.shape[1], indices_b.shape[1]))
    n = len(indices_a)
    both = np.concatenate([indices_a[:, :last], indices_b[:, :last]], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    both = np.take_along_axis(both, order, axis=1)
    # No index occurs twice in one neighbourhood, so each shared one makes one equal pair.
    row, place = np.nonzero(both[:, 1:] == both[:, :-1])
    needed = np.maximum(order[row, place] % last, order[row, place + 1] % last)
    shared = np.bincount(row * last + needed, minlength=n * last).reshape(n, last).cumsum(axis=1)
    return _shares(shared, ks)


def label_overlap_curve(indices: Indices, labels: npt.NDArray[Any], ks: Sequence[int]) -> Float64s:
    """Share of the `k` nearest neighbours that carry the label of the item, for every k.

    Column j is `overlap.label_overlap(indices, labels, ks[j])`.

    Args:
        indices: `(n, >= max(ks))` neighbours, nearest first, without the item itself.
        labels: `(n,)`.
        ks: numbers of neighbours.

    Returns:
        `(n, len(ks))` float64.

    Raises:
        ValueError: when labels and rows differ in number, or a k is out of range.
    """
    last = _last(ks, indices.shape[1])
    return _shares(_same(indices[:, :last], labels).cumsum(axis=1), ks)


def label_overlap_of_class_fraction(
    indices: Indices, labels: npt.NDArray[Any], fraction: float
) -> tuple[Float64s, npt.NDArray[np.intp]]:
    """Label overlap with a number of neighbours proportional to the size of the item's class.

    k_i = max(1, floor(fraction * size of the class)): with unequal classes, a fixed k asks small
    classes for more neighbours than they have members (Doimo et al. 2024, arXiv:2409.03662; as
    dadapy's `return_label_overlap(class_fraction=...)`).

    Args:
        indices: `(n, >= largest k_i)` neighbours, nearest first, without the item itself.
        labels: `(n,)`.
        fraction: share of the class, above 0 and at most 1.

    Returns:
        `(n,)` float64, share of the k_i nearest neighbours with the label of the item; and `(n,)`
        int, k_i.

    Raises:
        ValueError: when labels and rows differ in number, `fraction` is out of range, or the
            largest class needs more neighbours than there are.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}; it must lie in (0, 1].")
    same = _same(indices, labels)
    _, which, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    k = np.maximum(1, np.floor(sizes * fraction).astype(np.intp))[which]
    if k.max() > indices.shape[1]:
        raise ValueError(
            f"class fraction {fraction} of the largest class needs {k.max()} neighbours; the graph "
            f"holds {indices.shape[1]}."
        )
    shared = same.cumsum(axis=1)
    share: Float64s = shared[np.arange(len(k)), k - 1] / k
    return share, k


def expected_label_overlap(labels: npt.NDArray[Any]) -> Float64s:
    """Label overlap of each item with neighbours drawn at random: (class size - 1) / (n - 1).

    Returns:
        `(n,)` float64.

    Raises:
        ValueError: fewer than two labels.
    """
    n = len(labels)
    if n < 2:
        raise ValueError(f"{n} item(s) have no neighbours.")
    _, which, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    expected: Float64s = (sizes[which] - 1) / (n - 1)
    return expected


def _same(indices: Indices, labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    if len(labels) != len(indices):
        raise ValueError(f"{len(labels)} labels do not match {len(indices)} items.")
    same: npt.NDArray[np.bool_] = labels[indices] == labels[:, np.newaxis]
    return same


def _last(ks: Sequence[int], columns: int) -> int:
    if not ks or min(ks) < 1 or max(ks) > columns:
        raise ValueError(
            f"k is one of {list(ks)}, but the table of neighbours has {columns} columns; "
            "each k must lie between 1 and that."
        )
    return max(ks)


def _shares(counts: npt.NDArray[np.integer[Any]], ks: Sequence[int]) -> Float64s:
    chosen = np.asarray(ks)
    shares: Float64s = counts[:, chosen - 1] / chosen
    return shares
