"""Similarity of paired representations: linear CKA, its interval, and the cosine of pairs.

Raw cosines of hidden states are high for any two items, because all vectors share a direction
(anisotropy; Ethayarajh 2019). So each measure has a control with wrong pairs, made by
`overlap.derangement`, and the cosine a variant with the mean of each modality removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.geometry.overlap import derangement
from layersight.geometry.subsampling import subsampling_interval, subset_size
from layersight.statistics import Interval

Vectors = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]

_BLOCK_BYTES = 2**28
_ROUNDING_NOISE = 1e-14


def linear_cka(x: Vectors, y: Vectors) -> float:
    """Linear centred kernel alignment of two sets of representations of the same items.

    HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with K = x x^T, L = y y^T centred and the biased
    estimator HSIC(K, L) = tr(K L) / (n - 1)^2 (Kornblith et al. 2019). It does not
    change under rotation, shift and isotropic scaling of either set. Biased: for unrelated
    Gaussian data it is about sqrt(d_x d_y) / n for n >> d, and it nears 1 for d >> n, so read it
    against random pairs.

    Computed in float64, with n x n Gram matrices when there are fewer items than features and
    with d x d covariances otherwise.

    Args:
        x: `(n, d_x)`.
        y: `(n, d_y)`, the same items in the same order.

    Returns:
        A number between 0 and 1; NaN when all rows of `x` or all rows of `y` are identical.

    Raises:
        ValueError: when the arrays are not `(n, d)` with the same `n >= 2`.
    """
    _check_paired(x, y)
    x, y = _unit_scatter(x), _unit_scatter(y)
    if not (x.any() and y.any()):
        return float("nan")
    if len(x) < max(x.shape[1], y.shape[1]):
        k, m = x @ x.T, y @ y.T
        cross, own_x, own_y = np.sum(k * m), np.sum(k * k), np.sum(m * m)
    else:
        cross = np.sum((x.T @ y) ** 2)
        own_x, own_y = np.sum((x.T @ x) ** 2), np.sum((y.T @ y) ** 2)
    return _within_unit(cross / np.sqrt(own_x * own_y))


def subsampled_cka(
    x: Vectors, y: Vectors, *, resamples: int, rng: np.random.Generator, fraction: float = 0.8
) -> Float64s:
    """Linear CKA of random subsets of the items, drawn without replacement.

    All subsets share one pass over the Gram matrices: with the indicator w of a subset of m
    items, k = K w and l = L w, centring within the subset gives
    HSIC = sum_ij w_i w_j K_ij L_ij - 2/m sum_i w_i k_i l_i + 1/m^2 (w.k)(w.l),
    where K and L come in blocks of rows, never whole. Time grows with n^2 (d + 5 resamples).

    Args:
        x, y: `(n, d_x)` and `(n, d_y)`, the same items in the same order.
        resamples: number of subsets.
        rng: draws the subsets.
        fraction: share of the items in each.

    Returns:
        `(resamples,)` float64; NaN for subsets without variation in `x` or in `y`.

    Raises:
        ValueError: as `linear_cka`; or for a fraction that leaves fewer than two items, or all.
    """
    _check_paired(x, y)
    n = len(x)
    m = subset_size(n, fraction)
    x, y = _unit_scatter(x), _unit_scatter(y)
    chosen = np.zeros((n, resamples))
    for column in range(resamples):
        chosen[rng.permutation(n)[:m], column] = 1

    pairs = [("x", "x"), ("x", "y"), ("y", "y")]
    products = {pair: np.zeros(resamples) for pair in pairs}
    row_products = {pair: np.zeros(resamples) for pair in pairs}
    totals = {side: np.zeros(resamples) for side in ("x", "y")}
    length = max(1, _BLOCK_BYTES // (8 * (4 * n + 6 * resamples)))
    for start in range(0, n, length):
        rows = slice(start, start + length)
        gram = {"x": x[rows] @ x.T, "y": y[rows] @ y.T}
        sums = {side: gram[side] @ chosen for side in gram}
        for side in gram:
            totals[side] += np.einsum("ir,ir->r", chosen[rows], sums[side])
        for a, b in pairs:
            both = (gram[a] * gram[b]) @ chosen
            products[a, b] += np.einsum("ir,ir->r", chosen[rows], both)
            row_products[a, b] += np.einsum("ir,ir,ir->r", chosen[rows], sums[a], sums[b])
    own_x, cross, own_y = (
        products[a, b] - 2 / m * row_products[a, b] + totals[a] * totals[b] / m**2 for a, b in pairs
    )
    # A subset without variation leaves rounding noise instead of zero. With the scatter of all
    # items scaled to 1, the noise of these sums stays below 1e-14.
    defined = (own_x > _ROUNDING_NOISE) & (own_y > _ROUNDING_NOISE)
    norm = np.sqrt(np.where(defined, own_x * own_y, np.nan))
    ratio: Float64s = np.clip(cross / norm, 0.0, 1.0)
    return ratio


def cka_with_interval(
    x: Vectors,
    y: Vectors,
    *,
    resamples: int,
    level: float,
    rng: np.random.Generator,
    fraction: float = 0.8,
) -> Interval:
    """Linear CKA and its confidence interval by subsampling (Politis & Romano 1994).

    A bootstrap repeats items, and a repeated item is a perfect pair with itself, which raises
    CKA; subsets without replacement avoid that. See `subsampling.subsampling_interval`; the
    interval is cut to [0, 1].

    Args:
        x, y: `(n, d_x)` and `(n, d_y)`, the same items in the same order.
        resamples: number of subsets.
        level: coverage, for example 0.95.
        rng: draws the subsets.
        fraction: share m / n of the items in each.

    Returns:
        Value, low, high; all NaN when `x` or `y` does not vary, the ends NaN when some subsets
        do not.

    Raises:
        ValueError: as `subsampled_cka`.
    """
    value = linear_cka(x, y)
    if np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    n = len(x)
    values = subsampled_cka(x, y, resamples=resamples, rng=rng, fraction=fraction)
    return subsampling_interval(
        value, values, n=n, m=subset_size(n, fraction), level=level, lowest=0.0, highest=1.0
    )


def paired_cosine(x: Vectors, y: Vectors) -> Float64s:
    """Cosine between row i of `x` and row i of `y`.

    Args:
        x, y: `(n, d)`; computed in float64.

    Returns:
        `(n,)` float64 between -1 and 1; NaN where either row is zero.

    Raises:
        ValueError: when the shapes differ or are not `(n, d)`.
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"x and y must share one shape (n, d): {x.shape}, {y.shape}.")
    x, y = x.astype(np.float64), y.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    dots = np.einsum("ij,ij->i", x, y)
    cosines = np.divide(dots, lengths, out=np.full(len(x), np.nan), where=lengths > 0)
    bounded: Float64s = np.clip(cosines, -1.0, 1.0)
    return bounded


@dataclass(frozen=True)
class PairedCosines:
    """Cosines of true pairs and of wrong pairs, raw and with the mean of each side removed.

    Attributes: four `(n,)` float64 arrays, as `paired_cosine` gives them.
    """

    raw: Float64s
    raw_random_pairs: Float64s
    centred: Float64s
    centred_random_pairs: Float64s


def paired_cosines(x: Vectors, y: Vectors, *, rng: np.random.Generator) -> PairedCosines:
    """Cosines of pairs, with the controls that make them readable.

    Args:
        x, y: `(n, d)`, one modality each, the same items in the same order.
        rng: draws the wrong pairs, the same for the raw and the centred cosine.

    Raises:
        ValueError: as `paired_cosine`, or for fewer than two rows.
    """
    order = derangement(len(y), rng)
    x_centred, y_centred = centred(x), centred(y)
    return PairedCosines(
        raw=paired_cosine(x, y),
        raw_random_pairs=paired_cosine(x, y[order]),
        centred=paired_cosine(x_centred, y_centred),
        centred_random_pairs=paired_cosine(x_centred, y_centred[order]),
    )


def centred(x: Vectors) -> Float64s:
    """Rows minus their mean, in float64; exactly zero when all rows are identical.

    Args:
        x: `(n, d)`.
    """
    # Relative to the first row first: the mean of equal numbers may be off by a rounding error,
    # which a cosine or a correlation would blow up into a value.
    shifted: Float64s = x.astype(np.float64) - x[:1].astype(np.float64)
    shifted -= shifted.mean(axis=0)
    return shifted


def _unit_scatter(x: Vectors) -> Float64s:
    """Centred, and scaled so that the squares sum to 1 (CKA ignores the scale, overflow not)."""
    moved = centred(x)
    size = float(np.linalg.norm(moved))
    return moved / size if size > 0 else moved


def _within_unit(value: float) -> float:
    return min(1.0, max(0.0, float(value)))


def _check_paired(x: Vectors, y: Vectors) -> None:
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise ValueError(
            "x and y must have shapes (n, d_x) and (n, d_y) with the same n of at least 2: "
            f"{x.shape}, {y.shape}."
        )
