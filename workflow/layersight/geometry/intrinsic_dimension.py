"""Intrinsic dimension from distances to nearest neighbours: TwoNN and GRIDE.

Both estimators look at ratios mu = r_n2 / r_n1 of two neighbour distances of a point. Where the
density is constant up to the n2-th neighbour, the law of mu depends on the intrinsic dimension
alone. Both take `Neighbours.distances` of the module `neighbours`: nearest first, without the
point itself, and without copies of a point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DimensionEstimate:
    """Intrinsic dimension at one scale.

    Attributes:
        dimension: the estimate; infinite when all distance ratios are exactly 1.
        error: its standard error, see the estimator; NaN for an infinite dimension.
        scale: mean distance to the `n2`-th neighbour, in the units of the distances.
        n1, n2: neighbour ranks of the ratio.
        n: number of points.
    """

    dimension: float
    error: float
    scale: float
    n1: int
    n2: int
    n: int

    def asymptotic_normal_interval(self, level: float = 0.95) -> tuple[float, float]:
        """`dimension -/+ z error`, the lower end not below 0.

        The normal limit of a maximum-likelihood (or least-squares) estimate with independent
        ratios. It holds the sampling of the points only, no bias from curvature, boundary or
        uneven density; and because nearby points share neighbours, it is too narrow for large
        `n2`, where the ratios are far from independent.
        """
        half = NormalDist().inv_cdf(0.5 + level / 2) * self.error
        return max(0.0, self.dimension - half), self.dimension + half


def two_nn(
    distances: Float64s, fraction: float = 0.9, algorithm: Literal["base", "ml"] = "base"
) -> DimensionEstimate:
    """Intrinsic dimension from the first two neighbours (Facco et al. 2017, Sci. Rep. 7:12140).

    The ratios mu = r2 / r1 follow a Pareto law with exponent d, 1 - F(mu) = mu^-d.

    - "base": slope through the origin of -log(1 - i/n) against the sorted log(mu_i), over the
      smallest `fraction` of the ratios (the largest are the most noisy, and i = n is infinite).
      Standard error by the delta method: with log(mu) exponential, the sorted values are sums of
      independent terms of variance 1 / (n - m + 1)^2 (Renyi 1953), so
      Var(d_hat) / d^2 = sum_m (sum_{i >= m} y_i / (n - m + 1))^2 / (sum_i y_i^2)^2.
    - "ml": (n - 1) / sum log(mu) over all ratios; `fraction` has no effect. Standard error
      d / sqrt(n), from the Fisher information n / d^2. A fraction of 1 selects it too, as in
      dadapy, since the fit cannot use the largest ratio.

    The estimates are those of dadapy's `compute_id_2NN`; dadapy reports an error of 0 here.

    Args:
        distances: `(n, >= 2)`, to the nearest neighbours, nearest first, without the point itself.
        fraction: share of the ratios that "base" uses, above 0 and at most 1.
        algorithm: "base" or "ml".

    Raises:
        ValueError: for zero, non-finite or unsorted distances, too few columns or rows, or
            `fraction` or `algorithm` out of range.
    """
    checked = checked_distances(distances)
    n = len(checked)
    log_mu = np.log(checked[:, 1] / checked[:, 0])
    scale = float(checked[:, 1].mean())
    if algorithm not in ("base", "ml"):
        raise ValueError(f"algorithm is {algorithm!r}; known are 'base' and 'ml'.")
    if algorithm == "ml" or fraction == 1:
        dimension = _ratio_or_infinity(n - 1, log_mu.sum())
        relative_error = 1 / math.sqrt(n)
    else:
        n_used = int(n * fraction)
        if not 0 < fraction < 1 or n_used < 1:
            raise ValueError(
                f"fraction is {fraction}; it must lie in (0, 1] and leave one of {n} ratios."
            )
        log_mu = np.sort(log_mu)[:n_used]
        rank = np.arange(1, n_used + 1)
        y = -np.log1p(-rank / n)
        dimension = _ratio_or_infinity(log_mu @ y, log_mu @ log_mu)
        influence = np.cumsum(y[::-1])[::-1] / (n - rank + 1)
        relative_error = math.sqrt(influence @ influence) / float(y @ y)
    error = dimension * relative_error if math.isfinite(dimension) else math.nan
    return DimensionEstimate(dimension, error, scale, n1=1, n2=2, n=n)


def gride(distances: Float64s, range_max: int | None = None) -> list[DimensionEstimate]:
    """Intrinsic dimension over a range of scales (Denti et al. 2022, Sci. Rep. 12:20005).

    Maximum likelihood for the generalised ratios mu = r_n2 / r_n1 with n1 = 1, 2, 4, ... and
    n2 = 2 n1, whose density is
    d (mu^d - 1)^(n2 - n1 - 1) / (mu^((n2 - 1) d + 1) B(n2 - n1, n1)).
    As in dadapy's `return_id_scaling_gride`, n - 1 stands for n in the score, which removes the
    bias at n2 = 2, and ratios above median + 20 (95th percentile - median) are left out, as they
    come from points that nearly coincide. The standard error is that of the observed Fisher
    information of the ratios used. Unlike dadapy's, `scale` is the mean of r_n2 alone.

    Args:
        distances: `(n, columns)`, to the nearest neighbours, nearest first, without the point
            itself.
        range_max: largest n2; the number of columns when not given.

    Returns:
        One estimate for each n2 = 2, 4, 8, ... up to the lesser of `range_max` and the number of
        columns.

    Raises:
        ValueError: for zero, non-finite or unsorted distances, or fewer than two neighbours.
    """
    checked = checked_distances(distances)
    largest = checked.shape[1] if range_max is None else min(range_max, checked.shape[1])
    if largest < 2:
        raise ValueError(f"range_max is {range_max}; the first scale needs two neighbours.")
    estimates = []
    n1 = 1
    while 2 * n1 <= largest:
        estimates.append(_gride_at(checked, n1, 2 * n1))
        n1 *= 2
    return estimates


def gride_last(distances: Float64s, range_max: int | None = None) -> DimensionEstimate:
    """Return the last estimate of `gride` alone, with the same arguments and errors."""
    checked = checked_distances(distances)
    largest = checked.shape[1] if range_max is None else min(range_max, checked.shape[1])
    if largest < 2:
        raise ValueError(f"range_max is {range_max}; the first scale needs two neighbours.")
    n2 = 1 << (largest.bit_length() - 1)
    return _gride_at(checked, n2 // 2, n2)


def _gride_at(distances: Float64s, n1: int, n2: int) -> DimensionEstimate:
    outer = distances[:, n2 - 1]
    log_mu = usual_log_ratios(distances, n1, n2)
    dimension = _gride_maximum(log_mu, n1, n2)
    error = math.nan
    if math.isfinite(dimension):
        t = dimension * log_mu
        curvature = len(t) + (n2 - n1 - 1) * float(np.sum(growth(t) ** 2 * np.exp(-t)))
        error = dimension / math.sqrt(curvature)
    return DimensionEstimate(dimension, error, float(outer.mean()), n1, n2, len(distances))


def usual_log_ratios(distances: Float64s, n1: int, n2: int) -> Float64s:
    """Return log(r_n2 / r_n1) of the points that GRIDE uses.

    Args:
        distances: as checked by `checked_distances`.
        n1, n2: neighbour ranks.

    Returns:
        `(m,)` with m <= n: without ratios above median + 20 (95th percentile - median).
    """
    mu = distances[:, n2 - 1] / distances[:, n1 - 1]
    median, high = np.percentile(mu, [50, 95])
    usual = mu < median + 20 * (high - median)
    ratios: Float64s = np.log(mu[usual] if usual.any() else mu)
    return ratios


def _gride_maximum(log_mu: Float64s, n1: int, n2: int) -> float:
    """Root of d times the score; it falls strictly with d, so there is one."""
    n, total, power = len(log_mu), float(log_mu.sum()), n2 - n1 - 1
    if total == 0:
        return math.inf

    def score(d: float) -> float:
        t = d * log_mu
        return (n - 1) + power * float(growth(t).sum()) - (n2 - 1) * d * total

    # 1 <= growth(t) <= 1 + t encloses the root.
    numerator = (n - 1) + power * n
    low, high = numerator / ((n2 - 1) * total), numerator / (n1 * total)
    if power == 0:
        return low
    # Widened a little: with all ratios nearly 1 the ends themselves are roots up to rounding.
    return float(brentq(score, low * (1 - 1e-9), high * (1 + 1e-9), xtol=1e-12 * low, rtol=1e-12))


def growth(t: Float64s) -> Float64s:
    """t / (1 - exp(-t)), which tends to 1 as t tends to 0 (two equal distances)."""
    positive = t > 0
    return np.divide(t, -np.expm1(-t), out=np.ones_like(t), where=positive)


def _ratio_or_infinity(numerator: float, denominator: float) -> float:
    return float(numerator) / float(denominator) if denominator > 0 else math.inf


def checked_distances(distances: Float64s) -> Float64s:
    """Return distances in float64 that both estimators can use.

    Raises:
        ValueError: for zero, non-finite or unsorted distances, or too few columns or rows.
    """
    checked = np.asarray(distances, dtype=np.float64)
    if checked.ndim != 2 or checked.shape[1] < 2 or len(checked) < 2:
        raise ValueError(
            "distances must have shape (n, k) with at least two rows and two neighbours, "
            f"not {checked.shape}."
        )
    if not np.isfinite(checked).all():
        raise ValueError("distances hold NaN or infinity.")
    zero = checked[:, 0] <= 0
    if zero.any():
        raise ValueError(
            f"{np.count_nonzero(zero)} of {len(checked)} points have a neighbour at distance 0 "
            f"(the first is row {int(np.argmax(zero))}). Distance ratios are undefined for copies: "
            "remove duplicate points first (neighbours.first_copies), and do not pass the "
            "distance of a point to itself."
        )
    if (np.diff(checked, axis=1) < 0).any():
        raise ValueError("distances must rise along each row, nearest neighbour first.")
    return checked
