"""Bootstrap intervals for scores that share items.

Every interval here is the percentile bootstrap of Efron (1979; Efron and Tibshirani, 1993,
section 13.3): draw as many units as there are, with replacement, recompute the statistic, and take
the quantiles of the recomputed values. A unit is an item or, where `clusters` is given, a whole
cluster of items (Davison and Hinkley, 1997, section 3.8): questions about one picture stand or fall
together, and drawing them one by one would give intervals that are too narrow.

Arrays compared with each other share their items, so one draw serves all of them (paired
bootstrap).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

# Drawn indices and gathered values held at a time: 2**21 entries of eight bytes are 16 MiB each.
BLOCK_ENTRIES = 2**21

# A gain smaller than this share of the scores' own size is rounding, not a gain.
RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Interval:
    """A statistic on the observed items (`value`) and the ends of its interval, in its own unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RecoveryInterval(Interval):
    """An interval of a recovery, and how often the recovery could not be computed.

    `undefined_share`, in 0..1, is the share of resamples in which the tuned model did not beat the
    base model. The ends are quantiles of the other resamples. Once the share passes
    `(1 - level) / 2` they no longer have their nominal coverage: the gain that recovery divides by
    is itself not told apart from zero.
    """

    undefined_share: float


def resampled_means(
    columns: Sequence[ArrayLike],
    *,
    resamples: int = 2000,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
) -> FloatArray:
    """Mean of every column in every resample, with the same draw for all columns.

    Any function of means (a difference, a ratio, F1) is bootstrapped by applying it to the rows.

    Args:
        columns: k arrays of shape `(n,)`, paired by position.
        resamples: number of resamples.
        rng: source of the draws. Without clusters the draws are those of
            `scipy.stats.bootstrap` for the same generator.
        clusters: labels, shape `(n,)`. Clusters are drawn instead of items; the mean stays one over
            items, so a large cluster weighs more and the number of items varies between resamples.

    Returns:
        Array `(resamples, k)`, float64, in the columns' unit.

    Raises:
        ValueError: no item, unequal lengths, a value that is not finite, `resamples` below 1.
    """
    arrays = _paired_columns(columns)
    _check_resamples(resamples)
    size = arrays[0].shape[0]
    if clusters is None:
        sums, sizes = arrays, None
    else:
        membership = _membership(clusters, size)
        sums = [np.bincount(membership, weights=array).astype(np.float64) for array in arrays]
        sizes = np.bincount(membership)
    units = sums[0].shape[0]
    means = np.empty((resamples, len(sums)), dtype=np.float64)
    block = max(1, BLOCK_ENTRIES // units)
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        drawn = rng.integers(0, units, size=(stop - start, units))
        drawn_items = size if sizes is None else sizes[drawn].sum(axis=1)
        for column, values in enumerate(sums):
            means[start:stop, column] = values[drawn].sum(axis=1) / drawn_items
    return means


def percentile_ends(replicates: ArrayLike, *, level: float = 0.95) -> tuple[float, float]:
    """Ends of the percentile interval (Efron and Tibshirani, 1993, equation 13.5).

    Args:
        replicates: the statistic in every resample, shape `(resamples,)`.
        level: nominal coverage, strictly between 0 and 1.

    Returns:
        Lower and upper end, in the statistic's unit.

    Raises:
        ValueError: `level` out of range, or a replicate that is not finite.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; it must lie strictly between 0 and 1")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(_finite(replicates, "replicates"), [tail, 1.0 - tail])
    return float(low), float(high)


def bootstrap_mean(
    values: ArrayLike,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
) -> Interval:
    """Mean over items with its percentile interval.

    Args:
        values: one score per item, shape `(n,)`, any real dtype (computed in float64).
        resamples: number of resamples.
        level: nominal coverage, strictly between 0 and 1.
        rng: source of the draws.
        clusters: labels, shape `(n,)`; where given, clusters are drawn instead of items.

    Returns:
        The mean and its interval, in the scores' unit. A single item, or a single cluster, has
        nothing to be resampled against: both ends equal the value.

    Raises:
        ValueError: no item, a value that is not finite, labels of another length, `level` or
            `resamples` out of range.
    """
    array = _finite(values, "values")
    means = resampled_means([array], resamples=resamples, rng=rng, clusters=clusters)[:, 0]
    return _around(float(array.mean()), means, level, clusters)


def bootstrap_statistic(
    arrays: tuple[NDArray[Any], ...],
    statistic: Callable[..., float],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
) -> Interval:
    """Any statistic of arrays that share their items, with its percentile interval.

    Slower than a function of `resampled_means`, since the statistic is called once per resample.

    Args:
        arrays: arrays of shape `(n, ...)`; the same items are drawn in each.
        statistic: called with the resampled arrays in the order given; returns a finite number.
        resamples: number of resamples.
        level: nominal coverage, strictly between 0 and 1.
        rng: source of the draws.
        clusters: labels, shape `(n,)`; where given, clusters are drawn instead of items, and the
            resampled arrays differ in length.

    Returns:
        The statistic of the observed arrays and its interval, in its unit.

    Raises:
        ValueError: no array, no item, unequal lengths, a statistic that is not finite, `level` or
            `resamples` out of range.
    """
    if not arrays:
        raise ValueError("arrays is empty; at least one array is needed")
    lengths = [np.asarray(array).shape[0] if np.ndim(array) else 0 for array in arrays]
    if len(set(lengths)) != 1 or lengths[0] == 0:
        raise ValueError(f"arrays have lengths {lengths}; all must share the same items, n >= 1")
    _check_resamples(resamples)
    size = lengths[0]
    members: list[NDArray[np.intp]] | None = None
    if clusters is not None:
        membership = _membership(clusters, size)
        by_cluster = np.argsort(membership, kind="stable")
        members = np.split(by_cluster, np.cumsum(np.bincount(membership))[:-1])
    units = size if members is None else len(members)
    replicates = np.empty(resamples, dtype=np.float64)
    for index in range(resamples):
        drawn = rng.integers(0, units, size=units)
        if members is not None:
            drawn = np.concatenate([members[cluster] for cluster in drawn])
        replicates[index] = statistic(*(array[drawn] for array in arrays))
    value = float(statistic(*arrays))
    undefined = int(np.count_nonzero(~np.isfinite(replicates)))
    if undefined or not np.isfinite(value):
        raise ValueError(
            f"the statistic is {value} on the observed items and not finite in {undefined} of "
            f"{resamples} resamples; give a statistic that is defined on every resample"
        )
    low, high = percentile_ends(replicates, level=level)
    return Interval(value, low, high)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
) -> Interval:
    """Mean of `a - b` over the items the two share, with its percentile interval.

    Args:
        a: scores of one subject, shape `(n,)`.
        b: scores of the other on the same items in the same order, shape `(n,)`.
        resamples: number of resamples.
        level: nominal coverage, strictly between 0 and 1.
        rng: source of the draws.
        clusters: labels, shape `(n,)`; where given, clusters are drawn instead of items.

    Returns:
        The mean difference and its interval, in the scores' unit.

    Raises:
        ValueError: as `bootstrap_mean`, or when `a` and `b` differ in length.
    """
    first, second = _paired_columns([a, b])
    return bootstrap_mean(
        first - second, resamples=resamples, level=level, rng=rng, clusters=clusters
    )


def recovery(
    hybrid: ArrayLike,
    base: ArrayLike,
    tuned: ArrayLike,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
) -> RecoveryInterval:
    """Share of the gain from base to tuned that a hybrid of the two has, with its interval.

    recovery = (mean(hybrid) - mean(base)) / (mean(tuned) - mean(base)): 0 for the base model, 1 for
    the tuned one; it may pass both. The interval is that of a ratio of paired means. Resamples in
    which the denominator is not positive, or is mere rounding (below 1e-9 of the size of the
    scores), have no recovery: a hybrid cannot recover a gain that is not there. They are left out
    of the quantiles and counted.

    Args:
        hybrid: scores of the hybrid, shape `(n,)`.
        base: scores of the base model on the same items in the same order, shape `(n,)`.
        tuned: scores of the tuned model on the same items in the same order, shape `(n,)`.
        resamples: number of resamples.
        level: nominal coverage, strictly between 0 and 1.
        rng: source of the draws.
        clusters: labels, shape `(n,)`; where given, clusters are drawn instead of items.

    Returns:
        The recovery (a ratio, no unit), its interval and `undefined_share`. Value and ends are NaN
        where the tuned model does not beat the base model on the observed items.

    Raises:
        ValueError: no item, unequal lengths, a value that is not finite, `level` or `resamples` out
            of range.
    """
    columns = _paired_columns([hybrid, base, tuned])
    means = resampled_means(columns, resamples=resamples, rng=rng, clusters=clusters)
    smallest_gain = RELATIVE_TOLERANCE * max(float(np.abs(column).mean()) for column in columns[1:])
    gain = means[:, 2] - means[:, 1]
    defined = gain > smallest_gain
    undefined_share = float(np.count_nonzero(~defined)) / resamples
    hybrid_mean, base_mean, tuned_mean = (float(column.mean()) for column in columns)
    if not tuned_mean - base_mean > smallest_gain or not defined.any():
        return RecoveryInterval(np.nan, np.nan, np.nan, undefined_share)
    replicates = (means[defined, 0] - means[defined, 1]) / gain[defined]
    value = (hybrid_mean - base_mean) / (tuned_mean - base_mean)
    interval = _around(value, replicates, level, clusters)
    return RecoveryInterval(interval.value, interval.low, interval.high, undefined_share)


def _around(
    value: float, replicates: FloatArray, level: float, clusters: ArrayLike | None
) -> Interval:
    low, high = percentile_ends(replicates, level=level)
    if clusters is not None and np.unique(np.asarray(clusters)).size == 1:
        # Sums by cluster round differently from the mean over items; one cluster never varies.
        low = high = value
    return Interval(value, low, high)


def _finite(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}; one number per item, (n,), is needed")
    if array.size == 0:
        raise ValueError(f"{name} is empty; at least one item is needed")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(
            f"{name} has {bad.size} of {array.size} entries that are not finite, "
            f"the first at position {bad[0]} ({array[bad[0]]})"
        )
    return array


def _paired_columns(columns: Sequence[ArrayLike]) -> list[FloatArray]:
    if not len(columns):
        raise ValueError("no column given; at least one is needed")
    arrays = [_finite(column, f"column {index}") for index, column in enumerate(columns)]
    lengths = [array.size for array in arrays]
    if len(set(lengths)) != 1:
        raise ValueError(f"columns have lengths {lengths}; paired scores need the same items")
    return arrays


def _membership(clusters: ArrayLike, size: int) -> NDArray[np.intp]:
    labels = np.asarray(clusters)
    if labels.shape != (size,):
        raise ValueError(f"clusters has shape {labels.shape}; one label per item, ({size},)")
    return np.unique(labels, return_inverse=True)[1]


def _check_resamples(resamples: int) -> None:
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed")
