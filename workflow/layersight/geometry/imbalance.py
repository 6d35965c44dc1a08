"""Information imbalance: how well distances in one space foretell neighbours in another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from layersight.geometry.subsampling import Indices, Measure
from layersight.statistics import bootstrap_mean

Float64s = npt.NDArray[np.float64]

_BLOCK_ENTRIES = 2**24


def conditional_ranks(indices_a: Indices, indices_b: Indices, k: int = 1) -> Float64s:
    """Rank in space b of the `k` nearest neighbours in space a.

    Args:
        indices_a: `(n, >= k)` neighbours in a, nearest first, without the item itself.
        indices_b: `(n, columns)` neighbours in b, the same items in the same order.
        k: number of neighbours in a.

    Returns:
        `(n, k)` float64: 1 for the nearest in b and so on; NaN for a neighbour that is not among
        the columns of `indices_b`. None is NaN for `columns = n - 1`.

    Raises:
        ValueError: when the numbers of rows differ or there are fewer than `k` columns.
    """
    if indices_a.ndim != 2 or indices_b.ndim != 2 or len(indices_a) != len(indices_b):
        raise ValueError(
            "the two tables of neighbours must hold the same items: "
            f"{indices_a.shape}, {indices_b.shape}."
        )
    if not 1 <= k <= indices_a.shape[1]:
        raise ValueError(f"k is {k}, but the table of neighbours has shape {indices_a.shape}.")
    n, columns = indices_b.shape
    ranks = np.full((n, k), np.nan)
    length = max(1, _BLOCK_ENTRIES // columns)
    for column in range(k):
        for start in range(0, n, length):
            rows = slice(start, start + length)
            same = indices_b[rows] == indices_a[rows, column, np.newaxis]
            ranks[rows, column] = np.where(same.any(axis=1), same.argmax(axis=1) + 1, np.nan)
    return ranks


def information_imbalance(
    indices_a: Indices, indices_b: Indices, k: int = 1
) -> tuple[Float64s, float]:
    """Information imbalance from space a to space b, item by item (Glielmo et al. 2022, eq. 3).

    Delta(a -> b) = 2 / n < rank in b | among the k nearest in a >: (k + 1) / n where b orders the
    neighbours of a as a does, about 1 where a tells nothing about b. It is not symmetric. A rank
    beyond the columns of `indices_b` counts as the middle of the ranks that are left,
    (columns + n) / 2: the expectation of the rank that dadapy draws at random there. Where a says
    something about b, the true mean of those is lower; give n - 1 columns for the exact value.

    Args:
        indices_a: `(n, >= k)` neighbours in a, nearest first, without the item itself.
        indices_b: `(n, columns)` neighbours in b, the same items in the same order.
        k: number of neighbours in a.

    Returns:
        `(n,)` float64, whose mean is the imbalance, and the share of ranks beyond the columns.

    Raises:
        ValueError: as `conditional_ranks`.
    """
    ranks = conditional_ranks(indices_a, indices_b, k)
    n, columns = indices_b.shape
    beyond = np.isnan(ranks)
    filled = np.where(beyond, (columns + n) / 2, ranks)
    return 2 / n * filled.mean(axis=1), float(beyond.mean())


def imbalance_measures(
    indices_x: Indices,
    indices_y: Indices,
    *,
    k: int = 1,
    resamples: int,
    level: float,
    rng: np.random.Generator,
) -> list[Measure]:
    """Information imbalance in both directions, with intervals.

    Intervals are percentile bootstrap of the mean over items, with the ranks as they are: the
    spaces stay those of all items. Unrelated spaces have 1.

    Args:
        indices_x, indices_y: `(n, >= k)` neighbours in both spaces, nearest first, without the item
            itself; the same items in the same order.
        k: number of neighbours in the space that foretells.
        resamples: number of bootstrap resamples.
        level: coverage, for example 0.95.
        rng: draws the resamples.

    Returns:
        "imbalance_x_to_y", "imbalance_y_to_x", and without interval (NaN ends)
        "imbalance_x_to_y_beyond", "imbalance_y_to_x_beyond", the shares of ranks that the table
        does not hold.

    Raises:
        ValueError: as `information_imbalance`.
    """
    measures, shares = [], []
    nowhere = float("nan")
    for name, a, b in (("x_to_y", indices_x, indices_y), ("y_to_x", indices_y, indices_x)):
        values, beyond = information_imbalance(a, b, k)
        interval = bootstrap_mean(values, resamples=resamples, level=level, rng=rng)
        measures.append(Measure.of(f"imbalance_{name}", interval, len(values)))
        shares.append(Measure(beyond, nowhere, nowhere, f"imbalance_{name}_beyond", len(values)))
    return measures + shares
