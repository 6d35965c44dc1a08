"""Correlation of two representations through their intrinsic dimension, with a permutation test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.geometry.alignment import centred
from layersight.geometry.intrinsic_dimension import two_nn
from layersight.geometry.neighbours import first_copies
from layersight.geometry.subsampling import (
    Measure,
    Rows,
    random_subsets,
    subsampling_interval,
    subset_size,
)

Vectors = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]

_COLUMNS = 40
"""Neighbours that the subsets are taken from; each row of each subset must keep two."""


@dataclass(frozen=True)
class DimensionCorrelation(Measure):
    """Intrinsic-dimension correlation, its interval and its test.

    Attributes:
        dimension_x, dimension_y: intrinsic dimension of each side.
        dimension_joint: that of both sides next to each other.
        p_value: share of permutations, this pairing counted as one of them, whose joint dimension
            is as low as that of the true pairs.
        permutations: number of permutations.
        left_out: items left out, as copies of another or by the limit on items.
    """

    dimension_x: float
    dimension_y: float
    dimension_joint: float
    p_value: float
    permutations: int
    left_out: int


def dimension_correlation(
    x: Vectors,
    y: Vectors,
    *,
    resamples: int,
    level: float,
    rng: np.random.Generator,
    permutations: int = 100,
    two_nn_fraction: float = 0.9,
    fraction: float = 0.5,
    most_items: int = 2500,
) -> DimensionCorrelation:
    """Intrinsic-dimension correlation, Id-Cor (Basile et al. 2024, arXiv:2406.15812).

    (d_x + d_y - d_xy) / max(d_x, d_y), with d_xy the dimension of the two sides next to each other,
    each feature scaled to mean 0 and variance 1 (features that do not vary are left out), and all
    dimensions by TwoNN. It is 1 where one side determines the other and 0 where they are unrelated,
    up to the estimator's bias, which grows with the dimension and is larger for d_xy.

    The test permutes the items of y: p = (1 + #{d_xy permuted <= d_xy}) / (1 + permutations). The
    interval is by subsampling (`subsampling.subsampling_interval`), with all three dimensions found
    anew in each subset. An item that is left out changes the neighbours of others too, so that the
    subsets vary more than independent terms would, and the interval is wider than the spread of the
    estimate: 1.25 times for subsets of half of 150 items, 1.3 times for subsets of 80 %, and not
    at all for small ones, which however say little of the dimension. Items that copy an earlier one
    on either side are left out, since TwoNN is undefined for copies. Memory is 3 n^2 numbers of
    eight bytes for n items, so beyond `most_items` a random subset stands for the whole.

    Args:
        x: `(n, d_x)`.
        y: `(n, d_y)`, the same items in the same order.
        resamples: number of subsets.
        level: coverage, for example 0.95.
        rng: draws the items (where there are too many), the permutations, then the subsets.
        permutations: number of permutations.
        two_nn_fraction: share of the distance ratios that TwoNN fits.
        fraction: share of the items in each subset.
        most_items: largest number of items used.

    Returns:
        The measure "dimension_correlation".

    Raises:
        ValueError: when the sides do not pair, do not vary, or hold fewer than ten distinct items.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"x and y must be (n, d_x) and (n, d_y): {x.shape}, {y.shape}.")
    if permutations < 1:
        raise ValueError(f"permutations is {permutations}; at least 1 is needed.")
    used = np.flatnonzero(first_copies(x) & first_copies(y))
    if len(used) > most_items:
        used = np.sort(rng.permutation(used)[:most_items])
    n = len(used)
    if n < 10:
        raise ValueError(f"{n} distinct items are too few to estimate a dimension from.")
    left, right = _standardised(x[used]), _standardised(y[used])
    squared_x, squared_y = _squared_distances(left), _squared_distances(right)
    tables = [_nearest(squared) for squared in (squared_x, squared_y, squared_x + squared_y)]
    d_x, d_y, d_xy = (two_nn(distances, two_nn_fraction).dimension for _, distances in tables)

    by_chance = _permuted_dimensions(squared_x, squared_y, permutations, two_nn_fraction, rng)
    p_value = (1 + int(np.count_nonzero(by_chance <= d_xy))) / (1 + permutations)

    subsets = list(random_subsets(n, resamples=resamples, fraction=fraction, rng=rng))
    parts = [_dimensions_of_subsets(*table, subsets, two_nn_fraction) for table in tables]
    replicates = [_correlation(*three) for three in zip(*parts, strict=True)]
    interval = subsampling_interval(
        _correlation(d_x, d_y, d_xy),
        np.array(replicates),
        n=n,
        m=subset_size(n, fraction),
        level=level,
    )
    return DimensionCorrelation(
        value=interval.value,
        low=interval.low,
        high=interval.high,
        metric="dimension_correlation",
        n=n,
        dimension_x=d_x,
        dimension_y=d_y,
        dimension_joint=d_xy,
        p_value=p_value,
        permutations=permutations,
        left_out=len(x) - n,
    )


def _correlation(d_x: float, d_y: float, d_xy: float) -> float:
    if not np.isfinite([d_x, d_y, d_xy]).all():
        return float("nan")
    return (d_x + d_y - d_xy) / max(d_x, d_y)


def _standardised(x: Vectors) -> Float64s:
    """Features that vary, with mean 0 and variance 1."""
    moved = centred(x)
    spread = moved.std(axis=0)
    if not spread.any():
        raise ValueError("no feature varies; the intrinsic dimension is undefined.")
    scaled: Float64s = moved[:, spread > 0] / spread[spread > 0]
    return scaled


def _permuted_dimensions(
    squared_x: Float64s,
    squared_y: Float64s,
    permutations: int,
    fraction: float,
    rng: np.random.Generator,
) -> Float64s:
    """Dimension of x next to y with the items of y permuted: squared distances add up."""
    n = len(squared_x)
    every = np.arange(n)
    ratios = np.empty((permutations, n))
    for draw in range(permutations):
        order = rng.permutation(n)
        joint = squared_y.take(order, axis=0).take(order, axis=1)
        joint += squared_x
        nearest = joint.argmin(axis=1)
        first = joint[every, nearest]
        joint[every, nearest] = np.inf
        ratios[draw] = joint.min(axis=1) / first
    return _dimensions(np.log(ratios) / 2, fraction)


def _dimensions_of_subsets(
    indices: npt.NDArray[np.intp], distances: Float64s, subsets: list[Rows], fraction: float
) -> Float64s:
    """Dimension of each subset, its neighbours read off those of all items."""
    ratios = []
    for rows in subsets:
        member = np.zeros(len(indices), dtype=np.bool_)
        member[rows] = True
        kept, every = member[indices[rows]], np.arange(len(rows))
        first = kept.argmax(axis=1)
        kept[every, first] = False
        second = kept.argmax(axis=1)
        if not kept[every, second].all():
            raise ValueError(
                "an item keeps fewer than two neighbours in a subset; take larger ones."
            )
        of_rows = distances[rows]
        ratios.append(np.log(of_rows[every, second] / of_rows[every, first]))
    return _dimensions(np.stack(ratios), fraction)


def _dimensions(log_ratios: Float64s, fraction: float) -> Float64s:
    """Return the dimension of each row of `(draws, n)` log ratios, as `two_nn` has it ("base")."""
    n = log_ratios.shape[1]
    if fraction == 1:
        with np.errstate(divide="ignore"):
            return (n - 1) / log_ratios.sum(axis=1)
    used = int(n * fraction)
    smallest = np.sort(log_ratios, axis=1)[:, :used]
    y = -np.log1p(-np.arange(1, used + 1) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Float64s = smallest @ y / np.einsum("ij,ij->i", smallest, smallest)
    return found


def _nearest(squared: Float64s) -> tuple[npt.NDArray[np.intp], Float64s]:
    """Nearest items and their distances, `(n, columns)`, nearest first."""
    columns = min(_COLUMNS, len(squared) - 1)
    indices = np.argpartition(squared, columns - 1, axis=1)[:, :columns]
    found = np.take_along_axis(squared, indices, axis=1)
    order = np.argsort(found, axis=1, kind="stable")
    distances: Float64s = np.sqrt(np.take_along_axis(found, order, axis=1))
    return np.take_along_axis(indices, order, axis=1), distances


def _squared_distances(x: Float64s) -> Float64s:
    """Squared distances of all pairs, infinite on the diagonal."""
    squares = np.einsum("ij,ij->i", x, x)
    found: Float64s = x @ x.T
    found *= -2
    found += squares
    found += squares[:, np.newaxis]
    # Near-copies may come out at or below zero by rounding; the row's own unit of rounding stands.
    np.maximum(found, np.finfo(np.float64).eps * squares.max(), out=found)
    np.fill_diagonal(found, np.inf)
    return found
