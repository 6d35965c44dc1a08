"""Singular vector canonical correlation of paired representations, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.geometry.alignment import centred
from layersight.geometry.overlap import derangement
from layersight.geometry.subsampling import (
    Measure,
    random_subsets,
    subsampling_interval,
    subset_size,
)

Vectors = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]


def leading_scores(x: Vectors, variance: float = 0.95) -> Float64s:
    """Scores of the items along the fewest principal directions that hold a share of the variance.

    Args:
        x: `(n, d)`; computed in float64.
        variance: share kept, above 0 and at most 1. Variance is the squared singular value; the
            authors' released code sums singular values instead and so keeps more directions.

    Returns:
        `(n, r)` float64 with mean 0, most variance first; `r = 0` when all rows are identical.

    Raises:
        ValueError: for a share out of range, or an array that is not `(n >= 2, d)`.
    """
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"x must have shape (n, d) with n of at least 2, not {x.shape}.")
    if not 0 < variance <= 1:
        raise ValueError(f"variance is {variance}; it must lie in (0, 1].")
    moved = centred(x)
    size = float(np.linalg.norm(moved))
    if size == 0:
        return np.empty((len(x), 0))
    moved /= size
    n, d = moved.shape
    values, vectors = np.linalg.eigh(moved @ moved.T if n < d else moved.T @ moved)
    values, vectors = values[::-1], vectors[:, ::-1]
    # What rounding leaves of a zero eigenvalue is no direction.
    rank = int(np.count_nonzero(values > max(n, d) * np.finfo(np.float64).eps * values[0]))
    held = np.cumsum(values[:rank]) / values[:rank].sum()
    kept = min(rank, int(np.searchsorted(held, variance * (1 - 1e-12))) + 1)
    scores: Float64s = (
        vectors[:, :kept] * np.sqrt(values[:kept]) if n < d else moved @ vectors[:, :kept]
    )
    return scores * size


def mean_canonical_correlation(x: Vectors, y: Vectors) -> float:
    """Mean of all canonical correlations of two sets of variables (Hotelling 1936).

    The correlations are the singular values of Q_x^T Q_y, with Q an orthonormal basis of the
    centred columns (Bjorck & Golub 1973).

    Args:
        x: `(n, r_x)`.
        y: `(n, r_y)`, the same items in the same order, with columns that are independent.

    Returns:
        The mean over min(r_x, r_y) correlations, between 0 and 1; NaN without columns. Where
        r_x + r_y >= n some correlations are 1 whatever the data are.

    Raises:
        ValueError: when the numbers of rows differ.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(f"x and y must be (n, r_x) and (n, r_y): {x.shape}, {y.shape}.")
    if not (x.shape[1] and y.shape[1]):
        return float("nan")
    return _mean_correlations(x, (y,))[0]


def _mean_correlations(x: Float64s, others: Sequence[Float64s]) -> list[float]:
    """Mean canonical correlation of `x` with each of the others; one basis of `x` for all."""
    if not (x.shape[1] and all(other.shape[1] for other in others)):
        return [float("nan")] * len(others)
    basis, *bases = (np.linalg.qr(side - side.mean(axis=0))[0] for side in (x, *others))
    return [
        float(np.clip(np.linalg.svd(basis.T @ other, compute_uv=False), 0.0, 1.0).mean())
        for other in bases
    ]


def svcca(x: Vectors, y: Vectors, *, variance: float = 0.95) -> float:
    """Mean correlation of the leading directions of two representations (Raghu et al. 2017).

    Each side is reduced to its fewest principal directions that hold `variance` of its variance,
    and the canonical correlations of the two are averaged. It does not change under rotation,
    shift and isotropic scaling of either side. Biased upwards, to about 1 where the directions
    kept add up to the number of items: read it against `svcca_measures`' random pairs.

    Args:
        x: `(n, d_x)`.
        y: `(n, d_y)`, the same items in the same order.
        variance: share of the variance kept on each side.

    Returns:
        A number between 0 and 1; NaN when either side does not vary.

    Raises:
        ValueError: when the numbers of rows differ, or as `leading_scores`.
    """
    return mean_canonical_correlation(leading_scores(x, variance), leading_scores(y, variance))


def svcca_measures(
    x: Vectors,
    y: Vectors,
    *,
    resamples: int,
    level: float,
    rng: np.random.Generator,
    fraction: float = 0.8,
    variance: float = 0.95,
) -> list[Measure]:
    """SVCCA of true and of wrong pairs, with intervals, and how many directions it compares.

    Intervals are by subsampling (`subsampling.subsampling_interval`). The directions are those of
    all items; each subset centres its scores and finds its own correlations. Where all of them are
    well above 0 the interval is as wide as the spread of the estimate (within 5 %); where some are
    0 in truth, and their estimates positive all the same, it is a quarter to a third wider. The
    wrong pairs are one derangement of the items: the value that unrelated sides of these spectra
    have.

    Args:
        x: `(n, d_x)`.
        y: `(n, d_y)`, the same items in the same order.
        resamples: number of subsets.
        level: coverage, for example 0.95.
        rng: draws the wrong pairs, then the subsets.
        fraction: share of the items in each.
        variance: share of the variance kept on each side.

    Returns:
        "svcca", "svcca_random_pairs", and without interval (NaN ends) "svcca_directions_x" and
        "svcca_directions_y".

    Raises:
        ValueError: as `svcca` and `subsampling.subset_size`.
    """
    if len(x) != len(y):
        raise ValueError(f"x and y must hold the same items: {x.shape}, {y.shape}.")
    n = len(x)
    m = subset_size(n, fraction)
    left, right = leading_scores(x, variance), leading_scores(y, variance)
    wrong = right[derangement(n, rng)]
    replicates = np.array(
        [
            _mean_correlations(left[rows], (right[rows], wrong[rows]))
            for rows in random_subsets(n, resamples=resamples, fraction=fraction, rng=rng)
        ]
    )
    measures = []
    for column, (name, side) in enumerate((("svcca", right), ("svcca_random_pairs", wrong))):
        interval = subsampling_interval(
            mean_canonical_correlation(left, side),
            replicates[:, column],
            n=n,
            m=m,
            level=level,
            lowest=0.0,
            highest=1.0,
        )
        measures.append(Measure.of(name, interval, n))
    nowhere = float("nan")
    for name, scores in (("x", left), ("y", right)):
        measures.append(
            Measure(float(scores.shape[1]), nowhere, nowhere, f"svcca_directions_{name}", n)
        )
    return measures
