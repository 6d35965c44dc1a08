"""Massive activations: the few dimensions whose values are thousands of times the usual ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from layersight.geometry.subsampling import Measure
from layersight.statistics import percentile_ends, resampled_means

Vectors = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]

MASSIVE_COLUMNS = [
    "dimension", "massive", "items", "item_share", "largest", "median", "ratio", "norm_share",
]  # fmt: skip


@dataclass(frozen=True)
class MassiveActivations:
    """Where a cloud has massive activations.

    Attributes:
        dimensions: table with columns `MASSIVE_COLUMNS`, largest `norm_share` first: every
            dimension that is massive in some item, and the `shown` with the largest value.
            `items` and `item_share` count the items in which it is massive, `largest` is the value
            of largest magnitude (with its sign), `median` the median magnitude over items, `ratio`
            that divided by the median magnitude of a usual value, `norm_share` the share of the
            summed squared lengths that lies along it.
        usual: median over items of the median magnitude of their values.
        item_massive: `(n,)` bool, items with a massive value.
        n: number of items.
    """

    dimensions: pd.DataFrame
    usual: float
    item_massive: npt.NDArray[np.bool_]
    n: int


def massive_activations(
    x: Vectors, *, magnitude: float = 100.0, ratio: float = 1000.0, shown: int = 5
) -> MassiveActivations:
    """Report massive activations (Sun et al. 2024, arXiv:2402.17762, section 2).

    A value is massive when its magnitude exceeds `magnitude` and is at least `ratio` times the
    median magnitude of the vector that it belongs to. Where that median is 0, only the first
    condition counts. Geometry with and without those dimensions tells how much of it they carry
    (`np.delete(x, dimensions, axis=1)`).

    Args:
        x: `(n, d)`, any float dtype.
        magnitude: smallest magnitude, in the unit of the vectors.
        ratio: smallest multiple of the median magnitude.
        shown: number of dimensions reported even if none is massive.

    Raises:
        ValueError: for an array that is not `(n >= 1, d >= 1)`, or values that are not finite.
    """
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"x must have shape (n, d) with n and d of at least 1, not {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError("vectors hold NaN or infinity.")
    n, d = x.shape
    size = np.abs(x.astype(np.float64))
    usual_of_item = np.median(size, axis=1, keepdims=True)
    usual = float(np.median(usual_of_item))
    massive = (size > magnitude) & (size >= ratio * usual_of_item)
    items = massive.sum(axis=0)
    largest = size.max(axis=0)
    squares = np.einsum("ij,ij->j", size, size)
    total = float(squares.sum())

    reported = np.union1d(
        np.flatnonzero(items), np.argsort(-largest, kind="stable")[: min(shown, d)]
    )
    reported = reported[np.argsort(-squares[reported], kind="stable")]
    where = size.argmax(axis=0)
    median = np.median(size[:, reported], axis=0)
    nowhere = float("nan")
    table = pd.DataFrame(
        {
            "dimension": reported.astype(np.int32),
            "massive": items[reported] > 0,
            "items": items[reported].astype(np.int32),
            "item_share": items[reported] / n,
            "largest": x[where[reported], reported].astype(np.float64),
            "median": median,
            "ratio": median / usual if usual > 0 else np.full(len(reported), nowhere),
            "norm_share": squares[reported] / total if total > 0 else np.zeros(len(reported)),
        },
        columns=MASSIVE_COLUMNS,
    )
    return MassiveActivations(table, usual, massive.any(axis=1), n)


def massive_measures(
    x: Vectors,
    *,
    resamples: int,
    level: float,
    rng: np.random.Generator,
    magnitude: float = 100.0,
    ratio: float = 1000.0,
) -> list[Measure]:
    """How many items have massive activations, and how much of the cloud lies along them.

    Intervals are percentile bootstrap over items, with the dimensions as found in all items.

    Args:
        x: `(n, d)`, any float dtype.
        resamples: number of bootstrap resamples.
        level: coverage, for example 0.95.
        rng: draws the resamples.
        magnitude, ratio: as `massive_activations`.

    Returns:
        "massive_items" (share of the items with any), "massive_norm_share" (share of the summed
        squared lengths along the massive dimensions; NaN when all vectors are zero), and without
        interval (NaN ends) "massive_dimensions", their number.

    Raises:
        ValueError: as `massive_activations`, or for fewer than one resample.
    """
    found = massive_activations(x, magnitude=magnitude, ratio=ratio, shown=0)
    dimensions = found.dimensions["dimension"].to_numpy()
    wide = x.astype(np.float64)
    along = np.einsum("ij,ij->i", wide[:, dimensions], wide[:, dimensions])
    whole = np.einsum("ij,ij->i", wide, wide)
    columns = [found.item_massive.astype(np.float64), along, whole]
    means = resampled_means(columns, resamples=resamples, rng=rng)
    nowhere = float("nan")
    items = Measure(
        float(found.item_massive.mean()),
        *percentile_ends(means[:, 0], level=level),
        "massive_items",
        found.n,
    )
    shares = np.divide(
        means[:, 1], means[:, 2], out=np.full(len(means), np.nan), where=means[:, 2] > 0
    )
    if np.isfinite(shares).all():
        low, high = percentile_ends(shares, level=level)
    else:
        low = high = nowhere
    total = float(whole.sum())
    norm = Measure(
        float(along.sum()) / total if total > 0 else nowhere,
        low,
        high,
        "massive_norm_share",
        found.n,
    )
    count = Measure(float(len(dimensions)), nowhere, nowhere, "massive_dimensions", found.n)
    return [items, norm, count]
