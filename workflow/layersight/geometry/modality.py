"""How far apart two modalities lie: cosines of pairs, the modality gap and centroid distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.geometry.alignment import centred, paired_cosines
from layersight.geometry.subsampling import (
    Measure,
    random_subsets,
    subsampling_interval,
    subset_size,
)
from layersight.statistics import Interval, percentile_ends

Vectors = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]

_LARGEST_MULTIPLE = 1e6
_DRAWN_AT_A_TIME = 2**18


def cosine_measures(
    x: Vectors, y: Vectors, *, resamples: int, level: float, rng: np.random.Generator
) -> list[Measure]:
    """Mean and median cosine of true and of wrong pairs, raw and with each side's mean removed.

    Intervals are percentile bootstrap over items (Efron & Tibshirani 1993), the same draw for all
    measures: the cosine of one pair depends on no other. The wrong pairs, and the means that are
    removed, stay those of all items. Items with a zero vector, raw or centred, are left out.

    Args:
        x, y: `(n, d)`, one modality each, the same items in the same order.
        resamples: number of bootstrap resamples.
        level: coverage, for example 0.95.
        rng: draws the wrong pairs, then the resamples.

    Returns:
        For `p` in "cosine", "centred_cosine": `p_mean`, `p_median`, `p_random_pairs_mean`,
        `p_random_pairs_median`, and `p_above_random`, the mean of true less that of wrong pairs.
        `n` counts the items used; all NaN where none is left.

    Raises:
        ValueError: as `alignment.paired_cosines`, or for fewer than one resample.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed.")
    found = paired_cosines(x, y, rng=rng)
    table = np.stack(
        [found.raw, found.raw_random_pairs, found.centred, found.centred_random_pairs], axis=1
    )
    table = table[np.isfinite(table).all(axis=1)]
    n = len(table)
    names = [
        f"{prefix}_{name}"
        for prefix in ("cosine", "centred_cosine")
        for name in ("mean", "median", "random_pairs_mean", "random_pairs_median", "above_random")
    ]
    if n == 0:
        nowhere = float("nan")
        return [Measure(nowhere, nowhere, nowhere, name, 0) for name in names]
    value = _cosine_summary(table[np.newaxis])[0]
    # Draw by draw where there are many items, so that the memory stays bounded.
    drawn = np.concatenate(
        [
            _cosine_summary(table[rng.integers(0, n, (count, n))])
            for count in _batches(resamples, max(1, _DRAWN_AT_A_TIME // n))
        ]
    )
    return [
        Measure(float(value[i]), *percentile_ends(drawn[:, i], level=level), name, n)
        for i, name in enumerate(names)
    ]


def _batches(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def _cosine_summary(drawn: Float64s) -> Float64s:
    """Mean and median of each column of `(draws, n, 4)`, and the difference of means."""
    mean, median = drawn.mean(axis=1), np.median(drawn, axis=1)
    columns = [
        part
        for true in (0, 2)
        for part in (
            mean[:, true],
            median[:, true],
            mean[:, true + 1],
            median[:, true + 1],
            mean[:, true] - mean[:, true + 1],
        )
    ]
    return np.stack(columns, axis=1)


def modality_gap(x: Vectors, y: Vectors) -> float:
    """Distance between the means of two modalities on the unit sphere (Liang et al. 2022, sec. 2).

    || mean(x_i / ||x_i||) - mean(y_i / ||y_i||) ||, between 0 and 2.

    Args:
        x: `(n_x, d)` without zero vectors.
        y: `(n_y, d)` without zero vectors.

    Raises:
        ValueError: for shapes that do not fit, no row, or a zero vector.
    """
    _check_same_space(x, y)
    return float(np.linalg.norm(_on_sphere(x).mean(axis=0) - _on_sphere(y).mean(axis=0)))


def centroid_distance(x: Vectors, y: Vectors) -> float:
    """Distance between the means of two modalities, in the unit of the vectors.

    Args:
        x: `(n_x, d)`.
        y: `(n_y, d)`.

    Raises:
        ValueError: for shapes that do not fit, or no row.
    """
    _check_same_space(x, y)
    difference = x.mean(axis=0, dtype=np.float64) - y.mean(axis=0, dtype=np.float64)
    return float(np.linalg.norm(difference))


def relative_centroid_distance(x: Vectors, y: Vectors) -> float:
    """Distance between the means of two modalities, as a multiple of their spread.

    ||mean x - mean y|| / sqrt((tr cov x + tr cov y) / 2), with covariances over n. It does not
    change under rotation, a common shift and a common scale.

    Args:
        x: `(n_x, d)`.
        y: `(n_y, d)`.

    Returns:
        A number of at least 0; NaN when neither side varies, or by less than a millionth of the
        distance.

    Raises:
        ValueError: for shapes that do not fit, or no row.
    """
    distance = np.array([centroid_distance(x, y)])
    variance = np.array([(_total_variance(x) + _total_variance(y)) / 2])
    return float(_relative(distance, variance)[0])


def gap_measures(
    x: Vectors,
    y: Vectors,
    *,
    resamples: int,
    level: float,
    rng: np.random.Generator,
    fraction: float = 0.8,
) -> list[Measure]:
    """Modality gap and centroid distances of paired items, with intervals and their floor.

    Intervals are by subsampling pairs (`subsampling.subsampling_interval`), cut at 0. A distance
    of two means is above 0 even where the modalities do not differ; how far, the controls
    "_swapped" tell: in each pair the sides are swapped by a fair coin. Their value is the mean
    over `resamples` tosses and their ends are quantiles of it. Pairs with a zero vector are left
    out.

    Args:
        x, y: `(n, d)`, one modality each, the same items in the same order.
        resamples: number of subsets, and of tosses.
        level: coverage, for example 0.95.
        rng: draws the subsets, then the tosses.
        fraction: share of the pairs in each subset.

    Returns:
        "modality_gap", "centroid_distance", "relative_centroid_distance", each followed by itself
        with "_swapped".

    Raises:
        ValueError: for arrays that do not pair, or as `subsampling.subset_size`.
    """
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"x and y must share one shape (n, d): {x.shape}, {y.shape}.")
    used = x.any(axis=1) & y.any(axis=1)
    x, y = x[used].astype(np.float64), y[used].astype(np.float64)
    n = len(x)
    m = subset_size(n, fraction)
    chosen = np.zeros((resamples, n))
    for draw, rows in enumerate(random_subsets(n, resamples=resamples, fraction=fraction, rng=rng)):
        chosen[draw, rows] = 1 / m
    none = np.zeros_like(chosen)
    swap = rng.integers(0, 2, size=(resamples, n)) / n
    stay = 1 / n - swap
    # Weights of the 2n vectors in the mean of the one side and of the other.
    subsets = np.hstack([chosen, none]), np.hstack([none, chosen])
    tosses = np.hstack([stay, swap]), np.hstack([swap, stay])

    raw = np.vstack([x, y])
    sphere = np.vstack([_on_sphere(x), _on_sphere(y)])
    first = np.repeat([[1 / n, 0.0]], n, axis=1)
    everything = first, first[:, ::-1]
    measures = []
    for name, vectors, relative in (
        ("modality_gap", sphere, False),
        ("centroid_distance", raw, False),
        ("relative_centroid_distance", raw, True),
    ):
        value = float(_distances(vectors, *everything, relative=relative)[0])
        drawn = _distances(vectors, *subsets, relative=relative)
        interval = subsampling_interval(value, drawn, n=n, m=m, level=level, lowest=0.0)
        measures.append(Measure.of(name, interval, n))
        swapped = _distances(vectors, *tosses, relative=relative)
        low, high = np.quantile(swapped, [(1 - level) / 2, (1 + level) / 2])
        control = Interval(float(swapped.mean()), float(low), float(high))
        measures.append(Measure.of(f"{name}_swapped", control, n))
    return measures


def _distances(vectors: Float64s, left: Float64s, right: Float64s, *, relative: bool) -> Float64s:
    """Distance of two weighted means for each row of the weights, or its multiple of the spread."""
    # Around the common mean, so that the squares below do not swamp the spread.
    vectors = vectors - vectors.mean(axis=0)
    means = left @ vectors, right @ vectors
    distances: Float64s = np.linalg.norm(means[0] - means[1], axis=1)
    if not relative:
        return distances
    squares = np.einsum("ij,ij->i", vectors, vectors)
    spread = (left + right) @ squares - sum(np.einsum("ij,ij->i", mean, mean) for mean in means)
    return _relative(distances, spread / 2)


def _relative(distances: Float64s, variances: Float64s) -> Float64s:
    """Distances as multiples of a spread; NaN where the spread drowns in rounding."""
    found: Float64s = np.full(len(distances), np.nan)
    np.divide(distances, np.sqrt(np.maximum(variances, 0)), out=found, where=variances > 0)
    found[found > _LARGEST_MULTIPLE] = np.nan
    return found


def _on_sphere(x: Vectors) -> Float64s:
    wide = x.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    if not lengths.all():
        raise ValueError(f"row {int(np.argmin(lengths))} is zero; it has no direction.")
    unit: Float64s = wide / lengths
    return unit


def _total_variance(x: Vectors) -> float:
    return float(np.square(centred(x)).sum() / len(x))


def _check_same_space(x: Vectors, y: Vectors) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not (len(x) and len(y)):
        raise ValueError(
            "x and y must have shapes (n_x, d) and (n_y, d) with the same d and at least one row: "
            f"{x.shape}, {y.shape}."
        )
