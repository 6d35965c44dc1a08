"""Density peaks of a cloud: k-nearest-neighbour density and ADP clustering on a neighbour table.

Density takes the tables of the module `neighbours` and computes no distance itself. The peaks are
found by dadapy, and resampled by taking subsets of the items out of the same table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from layersight.geometry.intrinsic_dimension import gride
from layersight.geometry.subsampling import (
    Indices,
    Measure,
    Rows,
    random_subsets,
    restricted_neighbours,
    subsampling_interval,
)

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DensityPeaks:
    """Clusters of a cloud, one around each significant peak of the density.

    Attributes:
        labels: `(n,)` int32, the cluster of every item, 0..p-1.
        core: `(n,)` bool, items at least as dense as the highest saddle of their cluster; the
            others are its halo. All items are core where there is one cluster.
        peaks: `(p,)` row of the densest item of each cluster (by density less its error).
        log_density: `(n,)` float64, natural logarithm of items per unit of volume, as a share of n.
        log_density_error: its standard error, the same for every item.
        saddles: `(p, p)` float64, log density of the saddle between two clusters; NaN on the
            diagonal and where two clusters do not touch.
        floor: log density below that of every item less z errors, which stands for the saddle of
            clusters that do not touch.
        dimension: intrinsic dimension behind the density.
        k: neighbours behind the density.
        z: significance of the peaks, in standard errors.
    """

    labels: npt.NDArray[np.int32]
    core: npt.NDArray[np.bool_]
    peaks: Rows
    log_density: Float64s
    log_density_error: float
    saddles: Float64s
    floor: float
    dimension: float
    k: int
    z: float

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.labels)

    @property
    def core_fraction(self) -> float:
        """Share of the items that belong to the core of their cluster."""
        return float(self.core.mean())


def knn_log_density(distances: Float64s, k: int, dimension: float) -> Float64s:
    """Log density of each item from the distance to its `k`-th neighbour.

    log rho_i = log k - log n - log omega_d - d log r_ik, with omega_d the volume of the unit ball
    in d dimensions (Loftsgaarden & Quesenberry 1965, with the intrinsic dimension in place of the
    embedding one). Its standard error is 1 / sqrt(k), the same for every item.

    Args:
        distances: `(n, >= k)`, nearest first, without the item itself.
        k: number of neighbours.
        dimension: intrinsic dimension d, above 0.

    Returns:
        `(n,)` float64, natural logarithm, per unit of distance to the power d.

    Raises:
        ValueError: for fewer than `k` columns, a dimension that is not positive and finite, or an
            item with `k` copies.
    """
    n, columns = distances.shape
    if not 1 <= k <= columns:
        raise ValueError(f"k is {k}, but the table holds {columns} neighbours.")
    if not (math.isfinite(dimension) and dimension > 0):
        raise ValueError(f"dimension is {dimension}; a density needs a positive, finite one.")
    radius = distances[:, k - 1]
    if not (radius > 0).all():
        raise ValueError(
            f"{np.count_nonzero(~(radius > 0))} of {n} items have {k} copies (the first is row "
            f"{int(np.argmin(radius > 0))}): their density is infinite. Remove duplicates first "
            "(neighbours.first_copies)."
        )
    log_ball = dimension / 2 * math.log(math.pi) - gammaln(dimension / 2 + 1)
    found: Float64s = math.log(k) - math.log(n) - log_ball - dimension * np.log(radius)
    return found


def density_peaks(
    indices: Indices,
    distances: Float64s,
    *,
    k: int = 16,
    z: float = 1.65,
    dimension: float | None = None,
) -> DensityPeaks:
    """Clusters by advanced density peaks (d'Errico et al. 2021, Inf. Sci. 560:476), with dadapy.

    A peak is an item denser than its `k` neighbours and than those whose neighbour it is. Two
    peaks merge when one stands above their saddle by less than z times the sum of the standard
    errors of peak and saddle (here 2 z / sqrt(k), as every item has the error 1 / sqrt(k)); the
    pair with the highest saddle merges first.

    Args:
        indices, distances: `(n, >= k)`, nearest first, without the item itself, without copies
            of an item. Columns beyond `k` decide where an item next to a dismissed peak belongs.
        k: neighbours behind the density.
        z: significance of the peaks.
        dimension: intrinsic dimension; that of GRIDE at the largest scale n2 <= k when not given
            (n1 = 8, n2 = 16 for k = 16).

    Raises:
        ValueError: as `knn_log_density` and, without a dimension, `gride` do; for tables of
            different shapes, or `z` below 0.
    """
    # It imports jax, which takes seconds.
    from dadapy import Data

    if indices.ndim != 2 or indices.shape != distances.shape:
        raise ValueError(
            "indices and distances must share one shape (n, k): "
            f"{indices.shape}, {distances.shape}."
        )
    if not z >= 0:
        raise ValueError(f"z is {z}; it must be at least 0.")
    n, columns = indices.shape
    d = gride(distances, range_max=k)[-1].dimension if dimension is None else float(dimension)
    log_density = knn_log_density(distances, k, d)
    error = 1 / math.sqrt(k)

    own = np.arange(n)[:, np.newaxis]
    data = Data(
        distances=(
            np.concatenate([np.zeros((n, 1)), distances], axis=1),
            np.concatenate([own, indices], axis=1),
        ),
        maxk=columns,
        n_jobs=1,
    )
    data.set_id(d)
    data.set_kstar(k)
    data.log_den, data.log_den_err = log_density, np.full(n, error)
    core = np.asarray(data.compute_clustering_ADP(Z=z, halo=True)) >= 0
    labels = np.empty(n, dtype=np.int32)
    for cluster, members in enumerate(data.cluster_indices):
        labels[members] = cluster
    # dadapy clusters densities shifted to at least 1, and marks a saddle that is not there by 0.
    floor = float(log_density.min()) - z * error - 1
    saddles = np.array(data.log_den_bord, dtype=np.float64)
    saddles[saddles < floor + 0.5] = np.nan
    return DensityPeaks(
        labels=labels,
        core=core,
        peaks=np.asarray(data.cluster_centers, dtype=np.intp),
        log_density=log_density,
        log_density_error=error,
        saddles=saddles,
        floor=floor,
        dimension=d,
        k=k,
        z=z,
    )


@dataclass(frozen=True)
class ResampledPeaks:
    """Density peaks of all items, and of random subsets of them.

    Attributes:
        whole: the peaks of all items.
        members: rows of each subset, all of one size.
        parts: the peaks of each subset; their rows are positions in `members`.
    """

    whole: DensityPeaks
    members: tuple[Rows, ...]
    parts: tuple[DensityPeaks, ...]

    @property
    def subset_size(self) -> int:
        """Items in each subset."""
        return len(self.members[0])


def resampled_peaks(
    indices: Indices,
    distances: Float64s,
    *,
    resamples: int,
    rng: np.random.Generator,
    fraction: float = 0.8,
    k: int = 16,
    z: float = 1.65,
    dimension: float | None = None,
) -> ResampledPeaks:
    """Density peaks of all items and of subsets drawn without replacement.

    Neighbours within a subset come from the table (`subsampling.restricted_neighbours`), so the
    table should be wide: with the fraction f, a row keeps about f times its columns, and every
    row of every subset must keep `k`. Intrinsic dimension, density and peaks are all found anew.

    Args:
        indices, distances, k, z, dimension: as `density_peaks`.
        resamples: number of subsets.
        rng: draws the subsets.
        fraction: share of the items in each.

    Raises:
        ValueError: as `density_peaks` and `subsampling.subset_size`, or when a row keeps fewer
            than `k` neighbours in a subset.
    """
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; at least 1 is needed.")
    whole = density_peaks(indices, distances, k=k, z=z, dimension=dimension)
    members, parts = [], []
    for rows in random_subsets(len(indices), resamples=resamples, fraction=fraction, rng=rng):
        near, far = restricted_neighbours(indices, distances, rows)
        if near.shape[1] < k:
            raise ValueError(
                f"an item keeps {near.shape[1]} of {indices.shape[1]} neighbours in a subset of "
                f"{fraction:.0%}, and the density needs {k}: give a wider table of neighbours."
            )
        members.append(rows)
        parts.append(density_peaks(near, far, k=k, z=z, dimension=dimension))
    return ResampledPeaks(whole, tuple(members), tuple(parts))


def peak_measures(resampled: ResampledPeaks, *, level: float) -> list[Measure]:
    """Number of peaks and core fraction, with intervals by subsampling.

    Args:
        resampled: as `resampled_peaks` gives it.
        level: coverage, for example 0.95.

    Returns:
        "peaks" (an integer; its interval is cut at 1) and "core_fraction" (0..1).
    """
    n = resampled.whole.n
    m = resampled.subset_size
    peaks = subsampling_interval(
        len(resampled.whole.peaks),
        np.array([len(part.peaks) for part in resampled.parts], dtype=np.float64),
        n=n,
        m=m,
        level=level,
        lowest=1.0,
    )
    core = subsampling_interval(
        resampled.whole.core_fraction,
        np.array([part.core_fraction for part in resampled.parts]),
        n=n,
        m=m,
        level=level,
        lowest=0.0,
        highest=1.0,
    )
    return [Measure.of("peaks", peaks, n), Measure.of("core_fraction", core, n)]
