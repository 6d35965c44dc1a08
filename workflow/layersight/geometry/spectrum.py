"""Shape of a cloud: entropy and effective rank of its spectrum, participation ratio, anisotropy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.geometry.alignment import centred
from layersight.geometry.subsampling import (
    Measure,
    random_subsets,
    subsampling_interval,
    subset_size,
)

Vectors = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]

_TINY = float(np.finfo(np.float64).tiny)

_NAMES = (
    "spectrum_entropy",
    "effective_rank",
    "participation_ratio",
    "top_variance_share",
    "anisotropy",
)


def gram_spectrum(x: Vectors, *, unit_rows: bool = False) -> Float64s:
    """Eigenvalues of the Gram matrix of the centred rows, as shares of their sum.

    With centred rows c_i, the eigenvalues of c c^T are those of n times the covariance, so their
    shares are also the shares of variance of the principal components.

    Args:
        x: `(n, d)`; computed in float64, through the smaller of the n x n and d x d matrices.
        unit_rows: scale each row to length one after centring, so that every item weighs the same
            (a row equal to the mean stays zero).

    Returns:
        `(min(n, d),)` float64, largest first, none negative; those below
        max(n, d) * 2.2e-16 of the largest are rounding and come as 0. All NaN when all rows are
        identical.

    Raises:
        ValueError: for an array that is not `(n >= 2, d >= 1)`.
    """
    _check_cloud(x)
    moved = centred(x)
    if unit_rows:
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        moved = np.divide(moved, lengths, out=moved, where=lengths > 0)
    else:
        moved /= max(float(np.linalg.norm(moved)), _TINY)
    n, d = moved.shape
    return _shares(moved @ moved.T if n < d else moved.T @ moved, max(n, d))


def _shares(matrix: Float64s, size: int) -> Float64s:
    """Eigenvalues as shares of their sum; those that rounding leaves of zeros are 0."""
    values = np.linalg.eigvalsh(matrix)[::-1]
    if not values[0] > 0:
        return np.full(len(values), np.nan)
    values = np.where(values > size * np.finfo(np.float64).eps * values[0], values, 0.0)
    shares: Float64s = values / values.sum()
    return shares


def spectrum_entropy(x: Vectors) -> float:
    """Entropy of the normalised Gram spectrum, as a share of the largest possible.

    -sum(p log p) / log(min(n, d)) with p the eigenvalues of K / tr K, K the Gram matrix of the
    rows centred and scaled to length one (von Neumann entropy of the data set; Giraldo et al.
    2014, "Measures of entropy from data using infinitely divisible kernels", alpha -> 1).

    Args:
        x: `(n, d)`.

    Returns:
        0 (one direction) to 1 (all directions alike); NaN when all rows are identical, or when
        min(n, d) is 1.

    Raises:
        ValueError: as `gram_spectrum`.
    """
    return _relative_entropy(gram_spectrum(x, unit_rows=True))


def effective_rank(x: Vectors) -> float:
    """Effective rank of the centred cloud (Roy & Vetterli 2007, definition 1).

    exp(-sum(p log p)) with p = s / sum(s) and s the singular values of the centred rows.

    Args:
        x: `(n, d)`.

    Returns:
        1 to min(n - 1, d); NaN when all rows are identical.

    Raises:
        ValueError: as `gram_spectrum`.
    """
    return _effective_rank(gram_spectrum(x))


def participation_ratio(x: Vectors) -> float:
    """Participation ratio of the variances along principal components (Gao et al. 2017, eq. 5).

    (sum lambda)^2 / sum lambda^2 = (tr C)^2 / tr C^2, with C the covariance.

    Args:
        x: `(n, d)`.

    Returns:
        1 to min(n - 1, d); NaN when all rows are identical.

    Raises:
        ValueError: as `gram_spectrum`.
    """
    return _participation_ratio(gram_spectrum(x))


def anisotropy(x: Vectors) -> float:
    """Mean cosine of two different items of one cloud (Ethayarajh 2019, section 4.1).

    Over all pairs, in closed form: (||sum u_i||^2 - n) / (n (n - 1)) with u_i the rows scaled to
    length one, not centred. Zero rows are left out.

    Args:
        x: `(n, d)`.

    Returns:
        -1 / (n - 1) (directions cancel) to 1 (one direction); NaN with fewer than two rows that
        are not zero.

    Raises:
        ValueError: as `gram_spectrum`.
    """
    _check_cloud(x)
    return _mean_cosine(_directions(x))


def spectrum_measures(
    x: Vectors,
    *,
    resamples: int,
    level: float,
    rng: np.random.Generator,
    fraction: float = 0.8,
) -> list[Measure]:
    """All measures of the spectrum, with intervals by subsampling.

    An item drawn twice adds no direction, so a bootstrap would lower every rank; see
    `subsampling.subsampling_interval`. Every subset takes two eigenvalue decompositions. Rank and
    entropy grow with n as long as n is not far above d: compare clouds of one size only.

    Args:
        x: `(n, d)`; computed in float64.
        resamples: number of subsets.
        level: coverage, for example 0.95.
        rng: draws the subsets.
        fraction: share of the items in each.

    Returns:
        "spectrum_entropy", "effective_rank", "participation_ratio", "top_variance_share" (variance
        along the first principal component, 0..1), "anisotropy".

    Raises:
        ValueError: as `gram_spectrum` and `subsampling.subset_size`.
    """
    _check_cloud(x)
    n, d = x.shape
    m = subset_size(n, fraction)
    wide = x.astype(np.float64)
    directions = _directions(wide)
    value = _all_measures(wide, directions)
    # With fewer items than dimensions, all subsets read one Gram matrix.
    moved = centred(wide)
    moved /= max(float(np.linalg.norm(moved)), _TINY)
    gram = moved @ moved.T if n <= d else None
    replicates = np.array(
        [
            _all_measures(wide[rows], directions[rows])
            if gram is None
            else _measures_of_gram(gram[np.ix_(rows, rows)], d, directions[rows])
            for rows in random_subsets(n, resamples=resamples, fraction=fraction, rng=rng)
        ]
    )
    most = float(min(n - 1, d))
    ranges = ((0.0, 1.0), (1.0, most), (1.0, most), (0.0, 1.0), (-1.0, 1.0))
    measures = []
    for column, (name, (lowest, highest)) in enumerate(zip(_NAMES, ranges, strict=True)):
        interval = subsampling_interval(
            value[column],
            replicates[:, column],
            n=n,
            m=m,
            level=level,
            lowest=lowest,
            highest=highest,
        )
        measures.append(Measure.of(name, interval, n))
    return measures


def _all_measures(x: Float64s, directions: Float64s) -> list[float]:
    shares = gram_spectrum(x)
    return [
        _relative_entropy(gram_spectrum(x, unit_rows=True)),
        _effective_rank(shares),
        _participation_ratio(shares),
        float(shares[0]),
        _mean_cosine(directions),
    ]


def _measures_of_gram(gram: Float64s, d: int, directions: Float64s) -> list[float]:
    """The same from the Gram matrix of some rows about any origin."""
    inner = gram - gram.mean(axis=0)
    inner -= inner.mean(axis=1, keepdims=True)
    inner = (inner + inner.T) / 2
    size = max(len(inner), d)
    squares = np.diag(inner).copy()
    # What rounding leaves of identical rows is no spectrum.
    if not squares.max() > size * np.finfo(np.float64).eps * np.abs(np.diag(gram)).max():
        return [*[float("nan")] * (len(_NAMES) - 1), _mean_cosine(directions)]
    lengths = np.sqrt(np.where(squares > 0, squares, np.inf))
    shares = _shares(inner, size)
    return [
        _relative_entropy(_shares(inner / np.outer(lengths, lengths), size)),
        _effective_rank(shares),
        _participation_ratio(shares),
        float(shares[0]),
        _mean_cosine(directions),
    ]


def _entropy(shares: Float64s) -> float:
    positive = shares[shares > 0]
    return float(-(positive @ np.log(positive)))


def _relative_entropy(shares: Float64s) -> float:
    if len(shares) < 2 or np.isnan(shares[0]):
        return float("nan")
    return _entropy(shares) / float(np.log(len(shares)))


def _effective_rank(shares: Float64s) -> float:
    if np.isnan(shares[0]):
        return float("nan")
    singular = np.sqrt(shares)
    return float(np.exp(_entropy(singular / singular.sum())))


def _participation_ratio(shares: Float64s) -> float:
    return float(1 / (shares @ shares))


def _directions(x: Vectors) -> Float64s:
    """Rows scaled to length one; zero rows stay zero."""
    wide = x.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: Float64s = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return unit


def _mean_cosine(directions: Float64s) -> float:
    n = int(np.count_nonzero(directions.any(axis=1)))
    if n < 2:
        return float("nan")
    total = directions.sum(axis=0)
    return float((total @ total - n) / (n * (n - 1)))


def _check_cloud(x: Vectors) -> None:
    if x.ndim != 2 or len(x) < 2 or x.shape[1] == 0:
        raise ValueError(f"x must have shape (n, d) with n of at least 2, not {x.shape}.")
