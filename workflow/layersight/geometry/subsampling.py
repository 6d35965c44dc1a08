"""Intervals by repeated subsampling, and the neighbour table of a subset of the items.

A bootstrap draws items again, and a repeated item is a neighbour at distance zero, a perfect pair
with itself and a direction less in the spectrum. What reads neighbours, spectra or similarities
of pairs is therefore resampled without replacement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.statistics import Interval

Indices = npt.NDArray[np.integer[Any]]
Rows = npt.NDArray[np.intp]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measure(Interval):
    """A named number with its interval and the number of items that it comes from.

    Attributes:
        metric: the name, as it stands in tables.
        n: number of items.
    """

    metric: str
    n: int

    @classmethod
    def of(cls, metric: str, interval: Interval, n: int) -> Measure:
        """Name an interval."""
        return cls(interval.value, interval.low, interval.high, metric, n)


def subset_size(n: int, fraction: float) -> int:
    """Items in a subset that holds this fraction of `n`, rounded down.

    Raises:
        ValueError: for a fraction that leaves fewer than two items, or all.
    """
    m = int(fraction * n)
    if not 2 <= m < n:
        raise ValueError(f"fraction {fraction} of {n} items leaves {m}: at least 2 and not all.")
    return m


def random_subsets(
    n: int, *, resamples: int, fraction: float, rng: np.random.Generator
) -> Iterator[Rows]:
    """Draw subsets of `n` items without replacement, each with its rows in rising order.

    Args:
        n: number of items.
        resamples: number of subsets.
        fraction: share of the items in each.
        rng: draws the subsets.

    Raises:
        ValueError: as `subset_size`.
    """
    m = subset_size(n, fraction)
    for _ in range(resamples):
        yield np.sort(rng.permutation(n)[:m])


def subsampling_interval(
    value: float,
    replicates: Float64s,
    *,
    n: int,
    m: int,
    level: float,
    lowest: float = -np.inf,
    highest: float = np.inf,
) -> Interval:
    """Confidence interval of a statistic from its values on subsets (Politis & Romano 1994).

    Values theta_1..theta_B of subsets of m of the n items, drawn without replacement, vary around
    the value of all n with variance s^2 (1/m - 1/n), the estimate itself with s^2 / n: the ratio
    (n - m) / m is undone by the factor sqrt(m / (n - m)) (for m << n it becomes the sqrt(m / n) of
    the source). With q the quantiles of sqrt(m / (n - m)) (theta_b - mean theta), the interval is
    [theta - q_(1+level)/2, theta - q_(1-level)/2], cut to [lowest, highest]. The spread is taken
    around the mean of the subsets rather than around theta, so that the larger bias of the smaller
    sample does not move the interval.

    Args:
        value: theta, the statistic of all items.
        replicates: `(resamples,)`, the statistic of each subset.
        n: number of items.
        m: number of items in each subset.
        level: coverage, for example 0.95.
        lowest, highest: range of the statistic.

    Returns:
        Value, low, high; all NaN when the value is, the ends NaN when a replicate is.

    Raises:
        ValueError: when `level` is not between 0 and 1, or there is no replicate.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie in (0, 1).")
    if not len(replicates):
        raise ValueError("an interval needs at least one resample.")
    nowhere = float("nan")
    if np.isnan(value):
        return Interval(nowhere, nowhere, nowhere)
    if not np.isfinite(replicates).all():
        return Interval(float(value), nowhere, nowhere)
    spread = np.sqrt(m / (n - m)) * (replicates - replicates.mean())
    upper, lower = np.quantile(spread, [(1 + level) / 2, (1 - level) / 2])
    low, high = np.clip([value - upper, value - lower], lowest, highest)
    return Interval(float(value), float(low), float(high))


def restricted_neighbours(
    indices: Indices, distances: Float64s, members: Rows
) -> tuple[npt.NDArray[np.int32], Float64s]:
    """Nearest neighbours among a subset of the items, read off the table of all items.

    A row keeps those of its neighbours that belong to the subset, in their order: they are its
    nearest in the subset, exactly. The table is as wide as the row that keeps the fewest.

    Args:
        indices, distances: `(n, k)` of all items, nearest first, without the item itself.
        members: `(m,)` rows of the subset, in rising order.

    Returns:
        `(m, width)` int32 row numbers within the subset, and `(m, width)` distances;
        `width <= k`, and 0 when a row keeps none.
    """
    place = np.full(len(indices), -1, dtype=np.int32)
    place[members] = np.arange(len(members), dtype=np.int32)
    moved = place[indices[members]]
    kept = moved >= 0
    width = int(np.count_nonzero(kept, axis=1).min())
    order = np.argsort(~kept, axis=1, kind="stable")[:, :width]
    nearest: Float64s = np.take_along_axis(distances[members], order, axis=1)
    return np.take_along_axis(moved, order, axis=1), nearest


def rows_without_copies(indices: Indices, distances: Float64s) -> Rows:
    """Rows of a neighbour table whose item copies no earlier one.

    Copies lie at distance 0 and are ordered by index, so the earliest is among the first
    neighbours of each other one. With cosine distances, items of one direction count as copies.

    Args:
        indices, distances: `(n, k)`, nearest first, ties by index, without the item itself.

    Returns:
        Rows in rising order, for `restricted_neighbours`.
    """
    earlier = indices < np.arange(len(indices))[:, np.newaxis]
    return np.flatnonzero(~((distances == 0) & earlier).any(axis=1))
