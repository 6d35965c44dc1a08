"""Intrinsic dimension over scales: intervals, decimation curves, and where a curve is flat.

All of it reads the neighbours of one graph and searches for none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from layersight.geometry.intrinsic_dimension import (
    DimensionEstimate,
    checked_distances,
    growth,
    two_nn,
    usual_log_ratios,
)
from layersight.statistics import Interval, percentile_ends, resampled_means

Float64s = npt.NDArray[np.float64]
Indices = npt.NDArray[np.integer]


def gride_interval(
    distances: Float64s,
    estimate: DimensionEstimate,
    *,
    resamples: int = 500,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Interval:
    """Percentile bootstrap of a GRIDE estimate, by one Newton step a resample.

    With theta = log d, the score of a point and its slope are taken at the estimate once; a
    resample of the points has sums S and H of them, and the root of its score is theta - S / H up
    to terms of order 1 / n (the one-step bootstrap: Schucany and Wang 1991, J. R. Stat. Soc. B
    53:587). At ranks (1, 2) this is the maximum-likelihood form of TwoNN.

    Ratios are drawn as if independent, with the neighbourhoods of the sample at hand: curvature,
    boundary and uneven density are not in the interval, and for large `n2`, where neighbourhoods
    share most of their points, it is too narrow.

    Args:
        distances: `(n, >= n2)`, those of which the estimate was made.
        estimate: one of `intrinsic_dimension.gride`.
        resamples: number of resamples.
        level: nominal coverage.
        rng: source of the draws.

    Returns:
        The estimate and the ends, all without unit; the ends are NaN for an infinite estimate.

    Raises:
        ValueError: as `gride`, or `level` or `resamples` out of range.
    """
    value, n1, n2 = estimate.dimension, estimate.n1, estimate.n2
    if not math.isfinite(value):
        return Interval(value, math.nan, math.nan)
    t = value * usual_log_ratios(checked_distances(distances), n1, n2)
    power, n = n2 - n1 - 1, len(t)
    grown = growth(t)
    score = (n - 1) / n + power * grown - (n2 - 1) * t
    slope = power * grown * (1 - grown * np.exp(-t)) - (n2 - 1) * t
    means = resampled_means([score, slope], resamples=resamples, rng=rng)
    # The slope of a resample is zero only if all of its ratios are one.
    steps = np.divide(
        means[:, 0], -means[:, 1], out=np.full(len(means), np.nan), where=means[:, 1] < 0
    )
    if np.isnan(steps).any():
        return Interval(value, math.nan, math.nan)
    low, high = percentile_ends(value * np.exp(steps), level=level)
    return Interval(value, low, high)


@dataclass(frozen=True)
class DecimatedDimension:
    """TwoNN on subsets of the points.

    Attributes:
        parts: number of disjoint subsets, together all points.
        points: points of a subset, on average.
        used: share of the points whose first two neighbours within their subset are known.
        dimension: mean over the subsets; NaN where `used` is too low.
        low, high: ends of its asymptotic normal interval.
        spread: standard deviation over the subsets; NaN for one.
        scale: mean distance to the second neighbour within the subset, in units of the distances.
    """

    parts: int
    points: float
    used: float
    dimension: float
    low: float
    high: float
    spread: float
    scale: float


def decimation_curve(
    indices: Indices,
    distances: Float64s,
    *,
    rng: np.random.Generator,
    fraction: float = 0.9,
    algorithm: Literal["base", "ml"] = "base",
    fewest: int = 20,
    least_used: float = 0.99,
    level: float = 0.95,
) -> list[DecimatedDimension]:
    """TwoNN of all points, and of halves, quarters, ... of them (Facco et al. 2017, Sci. Rep.).

    Fewer points lie further apart: the curve shows the dimension at larger scales. At each step
    the points are cut at random into 1, 2, 4, ... disjoint subsets, and every subset is measured.
    The two nearest neighbours within a subset are the first two of a point's list that belong to
    it, so nothing is searched again. A point whose list holds fewer than two of them is left out,
    which favours dense places; a step where more than `1 - least_used` are left out gives NaN, and
    the curve ends there. With k neighbours a step of m subsets loses about
    (1 - 1/m)^k (1 + k / (m - 1)) of the points.

    Unlike dadapy's `return_id_scaling_2NN`, subsets of one step share no point. The interval is
    that of a mean of independent estimates, each with its standard error (`two_nn`).

    Args:
        indices, distances: `(n, k)`, of one graph of distinct points, nearest first.
        rng: cuts the points.
        fraction, algorithm: see `two_nn`.
        fewest: points of a subset, at least.
        least_used: share of the points that a step needs.
        level: nominal coverage.

    Raises:
        ValueError: as `two_nn`, or for indices of another shape.
    """
    checked = checked_distances(distances)
    n = len(checked)
    if indices.shape != checked.shape:
        raise ValueError(
            f"indices have shape {indices.shape}, distances {checked.shape}; they must be alike."
        )
    z = NormalDist().inv_cdf(0.5 + level / 2)
    curve = []
    parts = 1
    while n // parts >= max(fewest, 2):
        label = rng.permutation(n) % parts
        pairs, known = _first_two(label[indices] == label[:, np.newaxis], checked)
        used = float(known.mean())
        if used < least_used:
            nan = math.nan
            curve.append(DecimatedDimension(parts, n / parts, used, nan, nan, nan, nan, nan))
            break
        found = [
            two_nn(pairs[known & (label == part)], fraction, algorithm) for part in range(parts)
        ]
        values = np.array([estimate.dimension for estimate in found])
        mean = float(values.mean())
        error = math.sqrt(sum(estimate.error**2 for estimate in found)) / parts
        spread = float(values.std(ddof=1)) if parts > 1 else math.nan
        scale = float(np.mean([estimate.scale for estimate in found]))
        low = max(0.0, mean - z * error)
        curve.append(
            DecimatedDimension(parts, n / parts, used, mean, low, mean + z * error, spread, scale)
        )
        parts *= 2
    return curve


def _first_two(
    chosen: npt.NDArray[np.bool_], distances: Float64s
) -> tuple[Float64s, npt.NDArray[np.bool_]]:
    """Distances to the first two chosen neighbours `(n, 2)`, and which rows have two."""
    first = chosen.argmax(axis=1)
    rows = np.arange(len(chosen))
    rest = chosen.copy()
    rest[rows, first] = False
    known = rest.any(axis=1)
    second = rest.argmax(axis=1)
    return np.stack([distances[rows, first], distances[rows, second]], axis=1), known


@dataclass(frozen=True)
class Plateau:
    """The flattest stretch of a curve.

    Attributes:
        index: position of its middle.
        dimension: the value there.
        spread: largest over smallest value of the stretch, minus one.
    """

    index: int
    dimension: float
    spread: float


def plateau(dimensions: Sequence[float], width: int = 3) -> Plateau | None:
    """Choose the scale at which an intrinsic dimension depends least on the scale.

    At the smallest scales noise raises the dimension, at the largest curvature, boundary and gaps
    between clusters change it; in between there may be a plateau (Denti et al. 2022, Sci. Rep.
    12:20005; Facco et al. 2017). Of all `width` neighbouring scales with the same factor between
    them, those are chosen whose largest value exceeds the smallest by the least share; of equal
    ones, the smallest scales.

    Args:
        dimensions: one value a scale, scales growing by a constant factor.
        width: number of neighbouring scales, at least 2.

    Returns:
        The stretch's middle (the lower one for an even width), or None where no stretch is finite
        and positive. Whether it is flat enough to be called a plateau is for the reader of
        `spread` to say.

    Raises:
        ValueError: `width` below 2.
    """
    if width < 2:
        raise ValueError(f"width is {width}; a stretch has at least 2 scales.")
    best: Plateau | None = None
    for start in range(len(dimensions) - width + 1):
        stretch = dimensions[start : start + width]
        if not all(math.isfinite(value) and value > 0 for value in stretch):
            continue
        spread = max(stretch) / min(stretch) - 1
        if best is None or spread < best.spread:
            middle = start + (width - 1) // 2
            best = Plateau(middle, float(dimensions[middle]), spread)
    return best
