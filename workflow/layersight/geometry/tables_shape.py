"""Tidy tables over layers: the spectrum of a cloud, massive activations, and pairs of clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from layersight.geometry.dimension_correlation import dimension_correlation
from layersight.geometry.imbalance import imbalance_measures
from layersight.geometry.massive import MASSIVE_COLUMNS, massive_activations, massive_measures
from layersight.geometry.measure import FEWEST_VECTORS, Read, Vectors, checked, matched
from layersight.geometry.modality import cosine_measures, gap_measures
from layersight.geometry.neighbours import Metric, first_copies, nearest_neighbours
from layersight.geometry.spectrum import spectrum_measures
from layersight.geometry.subsampling import Measure
from layersight.geometry.svcca import svcca_measures
from layersight.seeds import derive_seed

SPECTRUM_COLUMNS = [
    "subject", "probe", "stream", "layer", "metric", "n", "value", "low", "high",
]  # fmt: skip
MASSIVE_TABLE_COLUMNS = ["subject", "probe", "stream", "layer", *MASSIVE_COLUMNS]
PAIR_COLUMNS = ["layer", "metric", "k", "n", "value", "low", "high"]


def spectrum_tables(
    read: Read,
    *,
    subject: str,
    probe: str,
    streams: Sequence[str],
    layers: Sequence[int],
    seed: int,
    resamples: int = 50,
    fraction: float = 0.8,
    level: float = 0.95,
    magnitude: float = 100.0,
    ratio: float = 1000.0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Spectrum and massive activations for every stream and layer.

    The spectrum is measured twice: with all dimensions, and, where some are massive, without them
    (metrics ending in "_without_massive").

    Args:
        read: vectors of a layer and stream.
        subject: the subject's name.
        probe: the probe set's name.
        streams: streams to measure.
        layers: layers to measure.
        seed: the random draws of each stream and layer derive from it.
        resamples: subsets (spectrum) and bootstrap resamples (massive activations).
        fraction: share of the items in each subset.
        level: coverage of the intervals.
        magnitude, ratio: as `massive.massive_activations`.

    Returns:
        Measures with columns `SPECTRUM_COLUMNS` (of `massive_measures` and, for `FEWEST_VECTORS`
        items or more, `spectrum_measures`), and the dimensions with massive or the largest values
        with columns `MASSIVE_TABLE_COLUMNS`.

    Raises:
        VectorsError: when vectors are not `(n, d)`, do not match their ids, or are not finite.
    """
    rows: list[dict[str, Any]] = []
    reported: list[pd.DataFrame] = []
    for stream in streams:
        for layer in layers:
            _, x = checked(read, layer, stream)
            key = {"subject": subject, "probe": probe, "stream": stream, "layer": int(layer)}
            rng = np.random.default_rng(derive_seed(seed, f"geometry/spectrum/{stream}/{layer}"))
            settings: dict[str, Any] = {"resamples": resamples, "level": level, "rng": rng}
            limits = {"magnitude": magnitude, "ratio": ratio}
            found = massive_activations(x, **limits).dimensions
            measures = massive_measures(x, **settings, **limits)
            rest = np.delete(x, found.query("massive")["dimension"].to_numpy(), axis=1)
            for suffix, cloud in (("", x), ("_without_massive", rest)):
                if suffix and cloud.shape == x.shape:
                    continue
                measures += _spectrum(cloud, suffix, fraction, settings)
            rows += [_row(key, one) for one in measures]
            reported.append(found.assign(**key))
    massive = pd.concat(reported, ignore_index=True) if reported else pd.DataFrame()
    return (
        pd.DataFrame(rows, columns=SPECTRUM_COLUMNS),
        massive.reindex(columns=MASSIVE_TABLE_COLUMNS),
    )


def pair_table(
    read_x: Read,
    read_y: Read,
    *,
    stream_x: str,
    stream_y: str,
    layers: Sequence[int],
    seed: int,
    key: Mapping[str, str],
    metric: Metric = "euclidean",
    k: int = 1,
    columns: int = 128,
    permutations: int = 100,
    two_nn_fraction: float = 0.9,
    most_items: int = 2500,
    resamples: int = 50,
    fraction: float = 0.8,
    level: float = 0.95,
) -> pd.DataFrame:
    """SVCCA, cosines, modality gap, information imbalance and Id-Cor of two sides, layer by layer.

    Items pair up by id. The two sides are two modalities in one subject, or one stream in two.
    Neighbour metrics leave out items that copy an earlier one on either side.

    Args:
        read_x, read_y: vectors of a layer and stream, one side each.
        stream_x, stream_y: stream of each side.
        layers: layers to measure.
        seed: the random draws of each layer derive from it.
        key: further columns, put before the others ("subject", "stream_image", ...).
        metric: distance behind the information imbalance.
        k: neighbours of the information imbalance.
        columns: neighbours kept for it.
        permutations, two_nn_fraction, most_items: as `dimension_correlation`.
        resamples: subsets or bootstrap resamples behind every interval.
        fraction: share of the items in each subset.
        level: coverage of the intervals.

    Returns:
        One row for each layer and metric, columns `key` and `PAIR_COLUMNS`: those of
        `svcca_measures`, `cosine_measures` and `gap_measures` (both where the sides have the same
        number of dimensions), `imbalance_measures`, "dimension_correlation" and
        "dimension_correlation_p" (no interval). `k` is 0 where no neighbours are used. Rows whose
        metric is undefined, as all are where one side does not vary, are NaN or absent.

    Raises:
        VectorsError: when the two hold different items, an item twice, or invalid vectors.
    """
    rows: list[dict[str, Any]] = []
    for layer in layers:
        where = f"streams {stream_x!r} and {stream_y!r}, layer {layer}"
        ids, x = checked(read_x, layer, stream_x)
        y = matched(ids, *checked(read_y, layer, stream_y), where)
        if len(x) < FEWEST_VECTORS:
            continue
        rng = np.random.default_rng(
            derive_seed(seed, f"geometry/pairs/{stream_x}/{stream_y}/{int(layer)}")
        )
        boot: dict[str, Any] = {"resamples": resamples, "level": level, "rng": rng}
        measures = svcca_measures(x, y, fraction=fraction, **boot)
        if x.shape == y.shape:
            measures += cosine_measures(x, y, **boot)
            if np.count_nonzero(x.any(axis=1) & y.any(axis=1)) >= FEWEST_VECTORS:
                measures += gap_measures(x, y, fraction=fraction, **boot)
        kept = first_copies(x) & first_copies(y)
        near: list[Measure] = []
        if np.count_nonzero(kept) >= FEWEST_VECTORS:
            near = _imbalance(x[kept], y[kept], metric, k, columns, boot)
            found = dimension_correlation(
                x,
                y,
                permutations=permutations,
                two_nn_fraction=two_nn_fraction,
                fraction=fraction,
                most_items=most_items,
                **boot,
            )
            nowhere = float("nan")
            p_value = Measure(found.p_value, nowhere, nowhere, "dimension_correlation_p", found.n)
            measures += [found, p_value]
        whole = {**key, "layer": int(layer)}
        rows += [{**_row(whole, one), "k": 0} for one in measures]
        rows += [{**_row(whole, one), "k": k} for one in near]
    return pd.DataFrame(rows, columns=[*key, *PAIR_COLUMNS])


def _spectrum(
    x: Vectors, suffix: str, fraction: float, settings: Mapping[str, Any]
) -> list[Measure]:
    if len(x) < FEWEST_VECTORS or x.shape[1] == 0:
        return []
    found = spectrum_measures(x, fraction=fraction, **settings)
    return [Measure.of(one.metric + suffix, one, one.n) for one in found]


def _imbalance(
    x: Vectors, y: Vectors, metric: Metric, k: int, columns: int, settings: Mapping[str, Any]
) -> list[Measure]:
    if metric == "cosine":
        pointing = x.any(axis=1) & y.any(axis=1)
        x, y = x[pointing], y[pointing]
    if len(x) <= k:
        return []
    width = min(max(columns, k), len(x) - 1)
    tables = [nearest_neighbours(side, width, metric=metric).indices for side in (x, y)]
    return imbalance_measures(*tables, k=k, **settings)


def _row(key: Mapping[str, Any], one: Measure) -> dict[str, Any]:
    return {
        **key,
        "metric": one.metric,
        "n": one.n,
        "value": one.value,
        "low": one.low,
        "high": one.high,
    }
