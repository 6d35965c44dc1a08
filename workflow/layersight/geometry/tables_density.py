"""Tidy tables of density peaks over layers and streams, from neighbour graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from layersight.geometry.clusters import (
    MERGE_COLUMNS,
    PEAK_COLUMNS,
    agreement_measures,
    merge_table,
    peak_table,
)
from layersight.geometry.density import peak_measures, resampled_peaks
from layersight.geometry.graph import ReadGraph
from layersight.geometry.intrinsic_dimension import gride
from layersight.geometry.measure import FEWEST_VECTORS, VectorsError
from layersight.geometry.subsampling import Measure, restricted_neighbours, rows_without_copies
from layersight.seeds import derive_seed

Ids = npt.NDArray[Any]

KEY_COLUMNS = ["subject", "probe", "stream", "layer"]
DENSITY_COLUMNS = [*KEY_COLUMNS, "metric", "labels", "k", "n", "value", "low", "high"]
DENSITY_MERGE_COLUMNS = [*KEY_COLUMNS, *MERGE_COLUMNS]
DENSITY_PEAK_COLUMNS = [*KEY_COLUMNS, "labels", *PEAK_COLUMNS[:1], "item_id", *PEAK_COLUMNS[2:]]

_AGREEMENT = ("ari", "homogeneity", "completeness")
_WIDTH = 4
"""Columns per density neighbour from which a subset of 80 % all but surely keeps enough."""


@dataclass(frozen=True)
class DensityTables:
    """What there is to know of the density peaks of one subject on one probe set.

    Attributes:
        measures: columns `DENSITY_COLUMNS`, one row for each stream, layer, metric and labelling.
            `labels` is empty for "peaks", "core_fraction" and "dimension" (of the density, without
            interval) and names the labelling for "ari", "homogeneity", "completeness" and each of
            them with "_permuted".
        merges: columns `DENSITY_MERGE_COLUMNS`, one row for each merge of a dendrogram.
        peaks: columns `DENSITY_PEAK_COLUMNS`, one row for each peak and labelling.
    """

    measures: pd.DataFrame
    merges: pd.DataFrame
    peaks: pd.DataFrame


def density_tables(
    read: ReadGraph,
    *,
    subject: str,
    probe: str,
    streams: Sequence[str],
    layers: Sequence[int],
    labels: Mapping[str, Mapping[str, Any]],
    seed: int,
    k: int = 16,
    z: float = 1.65,
    resamples: int = 50,
    fraction: float = 0.8,
    level: float = 0.95,
) -> DensityTables:
    """Density peaks and their agreement with labels, for every stream and layer.

    No distance is computed: whole and subsets read the same graph. Of items that share a vector (or
    under the cosine metric a direction) the first stands for all; cosine distances enter as chords
    of the unit sphere, as the intrinsic dimension needs. Where fewer than `FEWEST_VECTORS` distinct
    items, or too few for `k`, are left, the values are NaN and there is no merge and no peak.

    Args:
        read: graphs with 4 `k` neighbours at least, or all.
        subject: the subject's name.
        probe: the probe set's name.
        streams: streams to measure.
        layers: layers to measure.
        labels: name of a labelling ("kind", "modality", ...) to labels by item id, as text.
        seed: the random draws of each stream and layer derive from it.
        k: neighbours behind the density.
        z: significance of the peaks.
        resamples: subsets, each clustered anew, behind every interval.
        fraction: share of the items in each.
        level: coverage of the intervals.

    Raises:
        VectorsError: when a graph is too narrow, or an item has no label.
    """
    measures: list[dict[str, Any]] = []
    merges: list[pd.DataFrame] = []
    peaks: list[pd.DataFrame] = []
    for stream in streams:
        for layer in layers:
            where = f"stream {stream!r}, layer {layer}"
            key: dict[str, Any] = {
                "subject": subject,
                "probe": probe,
                "stream": stream,
                "layer": int(layer),
            }
            graph = read(layer, stream)
            ids, indices, distances = graph.kept_ids, graph.indices, graph.lengths
            if graph.coincident:
                members = rows_without_copies(indices, distances)
                indices, distances = restricted_neighbours(indices, distances, members)
                ids = ids[members]
            n = len(ids)
            named = {name: _labels_of(ids, of, name, where) for name, of in labels.items()}
            if not _enough(n, k, fraction):
                measures += _undefined(key, list(labels), k, n)
                continue
            if indices.shape[1] < min(_WIDTH * k, n - 1):
                raise VectorsError(
                    f"{where}: the graph keeps {indices.shape[1]} neighbours of every item; "
                    f"density with k = {k} needs {min(_WIDTH * k, n - 1)}."
                )
            if not np.isfinite(gride(distances, range_max=k)[-1].dimension):
                measures += _undefined(key, list(labels), k, n)
                continue
            rng = np.random.default_rng(derive_seed(seed, f"geometry/density/{stream}/{layer}"))
            found = resampled_peaks(
                indices, distances, resamples=resamples, rng=rng, fraction=fraction, k=k, z=z
            )
            nowhere = float("nan")
            own = peak_measures(found, level=level)
            own.append(Measure(found.whole.dimension, nowhere, nowhere, "dimension", n))
            measures += [_row(key, one, "", k) for one in own]
            for name, values in named.items():
                agreed = agreement_measures(found, values, level=level, rng=rng)
                measures += [_row(key, one, name, k) for one in agreed]
                described = peak_table(found.whole, values).assign(**key, labels=name)
                peaks.append(described.assign(item_id=ids[described["row"].to_numpy()]))
            merges.append(merge_table(found.whole).assign(**key))
    return DensityTables(
        measures=pd.DataFrame(measures, columns=DENSITY_COLUMNS),
        merges=_together(merges, DENSITY_MERGE_COLUMNS),
        peaks=_together(peaks, DENSITY_PEAK_COLUMNS),
    )


def _enough(n: int, k: int, fraction: float) -> bool:
    return n >= FEWEST_VECTORS and k >= 2 and k < int(fraction * n) < n


def _labels_of(ids: Ids, of: Mapping[str, Any], name: str, where: str) -> npt.NDArray[np.str_]:
    missing = [item for item in ids.tolist() if item not in of]
    if missing:
        raise VectorsError(
            f"{where}: {len(missing)} of {len(ids)} items have no {name!r} (for example "
            f"{missing[0]!r})."
        )
    return np.array([str(of[item]) for item in ids.tolist()])


def _row(key: Mapping[str, Any], one: Measure, labels: str, k: int) -> dict[str, Any]:
    return {
        **key,
        "metric": one.metric,
        "labels": labels,
        "k": k,
        "n": one.n,
        "value": one.value,
        "low": one.low,
        "high": one.high,
    }


def _undefined(
    key: Mapping[str, Any], labels: Sequence[str], k: int, n: int
) -> list[dict[str, Any]]:
    nowhere = float("nan")
    names = [("", name) for name in ("peaks", "core_fraction", "dimension")]
    for labelling in labels:
        names += [(labelling, name) for name in _AGREEMENT]
        names += [(labelling, f"{name}_permuted") for name in _AGREEMENT]
    return [
        _row(key, Measure(nowhere, nowhere, nowhere, name, n), labelling, k)
        for labelling, name in names
    ]


def _together(frames: Sequence[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    if not filled:
        return pd.DataFrame(columns=columns)
    return pd.concat(filled, ignore_index=True)[columns]
