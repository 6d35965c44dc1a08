"""Tidy tables over layers: the spectrum of a cloud, massive activations, and pairs of clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from layersight.geometry.dimension_correlation import dimension_correlation
from layersight.geometry.graph import NeighbourGraph, ReadGraph
from layersight.geometry.graph_pairs import matched_neighbours
from layersight.geometry.imbalance import imbalance_measures
from layersight.geometry.massive import MASSIVE_COLUMNS, massive_activations, massive_measures
from layersight.geometry.measure import (
    FEWEST_VECTORS,
    Read,
    Vectors,
    VectorsError,
    checked,
    matched,
)
from layersight.geometry.modality import cosine_measures, gap_measures
from layersight.geometry.neighbours import NeighboursError, first_copies
from layersight.geometry.spectrum import spectrum_measures
from layersight.geometry.subsampling import Measure
from layersight.geometry.svcca import svcca_measures
from layersight.seeds import derive_seed

SPECTRUM_COLUMNS = [
    "subject", "probe", "stream", "layer", "metric", "n", "value", "low", "high",
]  # fmt: skip
MASSIVE_TABLE_COLUMNS = ["subject", "probe", "stream", "layer", *MASSIVE_COLUMNS]
PAIR_COLUMNS = ["layer", "metric", "k", "n", "value", "low", "high"]

_SVCCA = ("svcca", "svcca_random_pairs", "svcca_directions_x", "svcca_directions_y")
_COSINES = tuple(
    f"{prefix}_{name}"
    for prefix in ("cosine", "centred_cosine")
    for name in ("mean", "median", "random_pairs_mean", "random_pairs_median", "above_random")
)
_GAPS = tuple(
    f"{name}{suffix}"
    for name in ("modality_gap", "centroid_distance", "relative_centroid_distance")
    for suffix in ("", "_swapped")
)
_DIMENSIONS = ("dimension_correlation", "dimension_correlation_p")
_IMBALANCES = tuple(
    f"imbalance_{way}{suffix}" for suffix in ("", "_beyond") for way in ("x_to_y", "y_to_x")
)


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
            key: dict[str, Any] = {"subject": subject, "probe": probe, "stream": stream}
            key["layer"] = int(layer)
            rng = np.random.default_rng(derive_seed(seed, f"geometry/spectrum/{stream}/{layer}"))
            settings: dict[str, Any] = {"resamples": resamples, "level": level, "rng": rng}
            limits: dict[str, Any] = {"magnitude": magnitude, "ratio": ratio}
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
    graph_x: ReadGraph,
    graph_y: ReadGraph,
    *,
    stream_x: str,
    stream_y: str,
    layers: Sequence[int],
    seed: int,
    key: Mapping[str, str],
    variance: float = 0.95,
    k: int = 1,
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
        graph_x, graph_y: their neighbour graphs, for the information imbalance. Ranks beyond the
            graphs count as `imbalance.information_imbalance` says.
        stream_x, stream_y: stream of each side.
        layers: layers to measure.
        seed: the random draws of each layer derive from it.
        key: further columns, put before the others ("subject", "stream_image", ...).
        variance: share of the variance that SVCCA keeps.
        k: neighbours of the information imbalance.
        permutations, two_nn_fraction, most_items: as `dimension_correlation`.
        resamples: subsets or bootstrap resamples behind every interval.
        fraction: share of the items in each subset; that of Id-Cor is its own.
        level: coverage of the intervals.

    Returns:
        One row for each layer and metric, columns `key` and `PAIR_COLUMNS`: those of
        `svcca_measures`, `cosine_measures` and `gap_measures` (both where the sides have the same
        number of dimensions), `imbalance_measures`, "dimension_correlation" and
        "dimension_correlation_p" (no interval). `k` is 0 where no neighbours are used. What is
        undefined, as most is where one side does not vary, is NaN.

    Raises:
        VectorsError: when the two hold different items, an item twice, or invalid vectors.
    """
    rows: list[dict[str, Any]] = []
    for layer in layers:
        where = f"streams {stream_x!r} and {stream_y!r}, layer {layer}"
        ids, x = checked(read_x, layer, stream_x)
        y = matched(ids, *checked(read_y, layer, stream_y), where)
        rng = np.random.default_rng(
            derive_seed(seed, f"geometry/pairs/{stream_x}/{stream_y}/{int(layer)}")
        )
        boot: dict[str, Any] = {"resamples": resamples, "level": level, "rng": rng}
        subsets = {**boot, "fraction": fraction}
        enough = len(x) >= FEWEST_VECTORS
        measures = _undefined(_SVCCA, len(x))
        if enough:
            measures = svcca_measures(x, y, variance=variance, **subsets)
        if x.shape == y.shape:
            pointing = int(np.count_nonzero(x.any(axis=1) & y.any(axis=1)))
            enough = pointing >= FEWEST_VECTORS
            measures += cosine_measures(x, y, **boot) if enough else _undefined(_COSINES, pointing)
            measures += gap_measures(x, y, **subsets) if enough else _undefined(_GAPS, pointing)
        distinct = int(np.count_nonzero(first_copies(x) & first_copies(y)))
        if distinct >= FEWEST_VECTORS:
            measures += _dimension_measures(x, y, permutations, two_nn_fraction, most_items, boot)
        else:
            measures += _undefined(_DIMENSIONS, distinct)
        try:
            near = _imbalance(graph_x(layer, stream_x), graph_y(layer, stream_y), k, boot)
        except NeighboursError as error:
            raise VectorsError(f"{where}: {error}") from None
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
    x: NeighbourGraph, y: NeighbourGraph, k: int, settings: Mapping[str, Any]
) -> list[Measure]:
    both = matched_neighbours(x, y)
    n = len(both.item_ids)
    if n < FEWEST_VECTORS or both.width < k:
        return _undefined(_IMBALANCES, n)
    return imbalance_measures(both.in_a, both.in_b, k=k, **settings)


def _dimension_measures(
    x: Vectors,
    y: Vectors,
    permutations: int,
    two_nn_fraction: float,
    most_items: int,
    settings: Mapping[str, Any],
) -> list[Measure]:
    found = dimension_correlation(
        x,
        y,
        permutations=permutations,
        two_nn_fraction=two_nn_fraction,
        most_items=most_items,
        **settings,
    )
    nowhere = float("nan")
    return [found, Measure(found.p_value, nowhere, nowhere, "dimension_correlation_p", found.n)]


def _undefined(names: Sequence[str], n: int) -> list[Measure]:
    nowhere = float("nan")
    return [Measure(nowhere, nowhere, nowhere, name, n) for name in names]


def _row(key: Mapping[str, Any], one: Measure) -> dict[str, Any]:
    return {
        **key,
        "metric": one.metric,
        "n": one.n,
        "value": one.value,
        "low": one.low,
        "high": one.high,
    }
