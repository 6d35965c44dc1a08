"""Density peaks against labels: agreement of the two partitions, dendrograms, and peak tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from layersight.geometry.density import DensityPeaks, ResampledPeaks
from layersight.geometry.subsampling import Measure, subsampling_interval
from layersight.statistics import Interval

Labels = npt.NDArray[Any]
Codes = npt.NDArray[np.intp]
Float64s = npt.NDArray[np.float64]

_LOWEST = {"ari": -1.0, "homogeneity": 0.0, "completeness": 0.0}

MERGE_COLUMNS = ["merge", "left", "right", "height", "peaks"]
PEAK_COLUMNS = ["peak", "row", "log_density", "items", "core_items", "label", "label_share"]


def agreement(clusters: npt.NDArray[np.integer[Any]], labels: Labels) -> dict[str, float]:
    """How far a clustering and given labels are the same partition.

    As scikit-learn's `adjusted_rand_score` and `homogeneity_completeness_v_measure`, from one
    table of counts; their checks of the input take fifty times as long as the numbers, which are
    wanted for every subset and permutation.

    - "ari": adjusted Rand index (Hubert & Arabie 1985), 1 for equal partitions and about 0 for
      unrelated ones.
    - "homogeneity": 1 - H(label | cluster) / H(label), 1 when every cluster holds one label
      (Rosenberg & Hirschberg 2007); 1 by convention when there is one label.
    - "completeness": 1 - H(cluster | label) / H(cluster), 1 when every label lies in one cluster;
      1 by convention when there is one cluster.

    Args:
        clusters: `(n,)` integers.
        labels: `(n,)`, of any type that sorts.

    Raises:
        ValueError: when the two differ in length.
    """
    if len(clusters) != len(labels):
        raise ValueError(f"{len(labels)} labels do not match {len(clusters)} items.")
    return _agreement(_codes(clusters), _codes(labels))


def _codes(values: Labels) -> Codes:
    """Number the distinct values from 0 on."""
    codes: Codes = np.unique(values, return_inverse=True)[1]
    return codes


def _agreement(clusters: Codes, labels: Codes) -> dict[str, float]:
    n, width = len(clusters), int(labels.max()) + 1
    counts = np.bincount(clusters * width + labels, minlength=width * (int(clusters.max()) + 1))
    table = counts.reshape(-1, width)
    by_cluster, by_label = table.sum(axis=1), table.sum(axis=0)
    # Ordered pairs of items that share a cluster, a label, or both.
    share_cluster, share_label, share_both = (
        int((sizes * (sizes - 1)).sum()) for sizes in (by_cluster, by_label, counts)
    )
    expected = share_cluster * share_label / max(n * (n - 1), 1)
    most = (share_cluster + share_label) / 2
    mutual = _entropy(by_cluster) + _entropy(by_label) - _entropy(counts)
    return {
        "ari": 1.0
        if share_cluster == share_label == share_both
        else (share_both - expected) / (most - expected),
        "homogeneity": _share(mutual, _entropy(by_label)),
        "completeness": _share(mutual, _entropy(by_cluster)),
    }


def _entropy(counts: npt.NDArray[np.integer[Any]]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares @ np.log(shares)))


def _share(mutual: float, entropy: float) -> float:
    return min(1.0, max(0.0, mutual / entropy)) if entropy > 0 else 1.0


def agreement_measures(
    resampled: ResampledPeaks, labels: Labels, *, level: float, rng: np.random.Generator
) -> list[Measure]:
    """Agreement of density peaks and labels, with intervals and the chance level.

    Intervals are by subsampling: every subset of items is clustered anew (`resampled_peaks`), so
    they hold the uncertainty of the clustering too. Homogeneity rises with the number of clusters
    whatever the labels are, so each measure has a control with the labels permuted over the items,
    as often as there are subsets: its value is the mean and its ends are quantiles of them.

    Args:
        resampled: peaks of all items and of subsets.
        labels: `(n,)`, of any type that sorts.
        level: coverage, for example 0.95.
        rng: permutes the labels.

    Returns:
        "ari", "homogeneity", "completeness", and each of them with "_permuted".

    Raises:
        ValueError: when labels and items differ in number.
    """
    n = resampled.whole.n
    found = agreement(resampled.whole.labels, labels)
    codes, clusters = _codes(labels), resampled.whole.labels.astype(np.intp)
    parts = [
        _agreement(part.labels.astype(np.intp), codes[members])
        for part, members in zip(resampled.parts, resampled.members, strict=True)
    ]
    by_chance = [_agreement(clusters, rng.permutation(codes)) for _ in parts]
    measures = []
    for name, value in found.items():
        interval = subsampling_interval(
            value,
            np.array([part[name] for part in parts]),
            n=n,
            m=resampled.subset_size,
            level=level,
            lowest=_LOWEST[name],
            highest=1.0,
        )
        measures.append(Measure.of(name, interval, n))
    for name in found:
        drawn = np.array([one[name] for one in by_chance])
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        chance = Interval(float(drawn.mean()), float(low), float(high))
        measures.append(Measure.of(f"{name}_permuted", chance, n))
    return measures


def saddle_dendrogram(peaks: DensityPeaks) -> Float64s:
    """Hierarchy of density peaks: WPGMA on the depth of their saddles.

    Two peaks are as far apart as their saddle lies below the highest density of the cloud,
    d_ab = max(log rho) - log rho_saddle(a, b); the saddle of clusters that do not touch counts as
    `peaks.floor`. Linkage is weighted average (WPGMA, McQuitty 1966). dadapy's own drawing uses
    the same distance with single linkage.

    Returns:
        `(p - 1, 4)` float64 as `scipy.cluster.hierarchy.linkage` returns it: two merged clusters
        (0..p-1 are peaks), height (natural logarithm of density), number of peaks below. Empty
        for a single peak.
    """
    if len(peaks.peaks) < 2:
        return np.empty((0, 4))
    saddles = np.where(np.isnan(peaks.saddles), peaks.floor, peaks.saddles)
    depth = peaks.log_density.max() - saddles
    np.fill_diagonal(depth, 0.0)
    merged: Float64s = linkage(squareform(depth, checks=False), "weighted")
    return merged


def merge_table(peaks: DensityPeaks) -> pd.DataFrame:
    """Dendrogram as a tidy table, one row for each merge, lowest first.

    Returns:
        Columns `MERGE_COLUMNS`: `left` and `right` are peaks (0..p-1) or earlier merges (p + their
        number), `height` is that of `saddle_dendrogram`, `peaks` the number of peaks below.
    """
    merged = saddle_dendrogram(peaks)
    columns = {
        "merge": np.arange(len(merged), dtype=np.int32),
        "left": merged[:, 0].astype(np.int32),
        "right": merged[:, 1].astype(np.int32),
        "height": merged[:, 2],
        "peaks": merged[:, 3].astype(np.int32),
    }
    return pd.DataFrame(columns, columns=MERGE_COLUMNS)


def peak_table(peaks: DensityPeaks, labels: Labels) -> pd.DataFrame:
    """Describe every peak: where it is, how dense and how large, and the label it mostly holds.

    Args:
        peaks: the clustering.
        labels: `(n,)`, of any type that sorts; of labels equally frequent the first in order.

    Returns:
        One row for each peak with columns `PEAK_COLUMNS`: `row` is the item at the peak, `items`
        and `core_items` count its cluster and the core of it, `label` is text and `label_share`
        the share of the cluster's items with it.

    Raises:
        ValueError: when labels and items differ in number.
    """
    if len(labels) != peaks.n:
        raise ValueError(f"{len(labels)} labels do not match {peaks.n} items.")
    rows = []
    for peak, row in enumerate(peaks.peaks):
        inside = peaks.labels == peak
        names, counts = np.unique(labels[inside], return_counts=True)
        first = int(np.argmax(counts))
        rows.append(
            {
                "peak": peak,
                "row": int(row),
                "log_density": float(peaks.log_density[row]),
                "items": int(np.count_nonzero(inside)),
                "core_items": int(np.count_nonzero(inside & peaks.core)),
                "label": str(names[first]),
                "label_share": float(counts[first] / counts.sum()),
            }
        )
    return pd.DataFrame(rows, columns=PEAK_COLUMNS)
