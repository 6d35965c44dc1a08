"""Tidy tables of what neighbour graphs say, layer by layer: dimension and density.

Each table takes a callable that reads a graph for a layer and a stream, such as `GraphStore.read`,
and searches for no neighbour. What is undefined at a layer gives rows with NaN, never a gap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from layersight.geometry.dimension_scales import decimation_curve, gride_interval, plateau
from layersight.geometry.graph import NeighbourGraph, ReadGraph
from layersight.geometry.intrinsic_dimension import gride, two_nn
from layersight.geometry.knn_density import knn_log_density
from layersight.geometry.measure import FEWEST_VECTORS
from layersight.seeds import derive_seed

DIMENSION = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("stream", pa.string()),
        ("layer", pa.int32()),
        ("estimator", pa.string()),
        ("n1", pa.int32()),
        ("n2", pa.int32()),
        ("parts", pa.int32()),
        ("scale", pa.float64()),
        ("n", pa.int32()),
        ("used", pa.float64()),
        ("copies", pa.int32()),
        ("zeros", pa.int32()),
        ("coincident", pa.int32()),
        ("dimension", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("interval", pa.string()),
        ("spread", pa.float64()),
        ("plateau", pa.bool_()),
    ]
)
"""Estimators: "two_nn" and "two_nn_decimated" (in the study's form, base or ml), "two_nn_ml" and
"gride". `n` counts distinct vectors, `parts` the disjoint subsets of a decimation and `used` the
share of points whose neighbours are known. `plateau` marks the middle of the flattest three scales
of GRIDE and of the decimation curve; `spread` is there how far they differ, as a share."""

DENSITY = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("stream", pa.string()),
        ("layer", pa.int32()),
        ("item_id", pa.string()),
        ("k", pa.int32()),
        ("dimension", pa.float64()),
        ("log_density", pa.float64()),
        ("error", pa.float64()),
    ]
)


@dataclass(frozen=True)
class DimensionSettings:
    """What the tables of dimension and density compute.

    Attributes:
        two_nn_fraction: share of the ratios that TwoNN fits; 1 selects maximum likelihood.
        gride_range_max: largest neighbour rank of GRIDE, at most the k of the graph.
        decimated_fewest: points of a subset, at least.
        plateau_width: neighbouring scales that a plateau has.
        density_k: neighbours of the density.
        density_n2: rank n2 of the GRIDE estimate that is the density's dimension.
        resamples: bootstrap draws behind each interval.
        level: coverage of the intervals.
    """

    two_nn_fraction: float = 0.9
    gride_range_max: int = 64
    decimated_fewest: int = 50
    plateau_width: int = 3
    density_k: int = 16
    density_n2: int = 16
    resamples: int = 500
    level: float = 0.95

    @property
    def scales(self) -> list[tuple[int, int]]:
        """Ranks n1, n2 of GRIDE."""
        return [(2**i, 2 ** (i + 1)) for i in range(self.gride_range_max.bit_length() - 1)]


def dimension_table(
    read: ReadGraph,
    *,
    subject: str,
    probe: str,
    streams: Sequence[str],
    layers: Sequence[int],
    settings: DimensionSettings,
    seed: int,
) -> pd.DataFrame:
    """Intrinsic dimension by TwoNN in both forms, GRIDE at all scales and decimation.

    Intervals: "asymptotic" for TwoNN in the study's form and for decimation (see `two_nn`),
    "bootstrap" over points for `two_nn_ml` and GRIDE (see `gride_interval`).

    Returns:
        One row per stream, layer, estimator and scale, with the columns of `DIMENSION`. NaN where
        there are fewer than `FEWEST_VECTORS` distinct vectors, too few neighbours for the rank, or
        distinct vectors at distance zero from one another.
    """
    rows = []
    for stream in streams:
        for layer in layers:
            graph = read(layer, stream)
            rng = np.random.default_rng(derive_seed(seed, f"dimension/{stream}/{int(layer)}"))
            key = {
                "subject": subject,
                "probe": probe,
                "stream": stream,
                "layer": int(layer),
                "n": len(graph.rows),
                "copies": graph.copies,
                "zeros": graph.zeros,
                "coincident": graph.coincident,
            }
            rows += [{**key, **row} for row in _dimension_rows(graph, settings, rng)]
    return pd.DataFrame(rows, columns=DIMENSION.names)


def density_table(
    read: ReadGraph,
    *,
    subject: str,
    probe: str,
    streams: Sequence[str],
    layers: Sequence[int],
    settings: DimensionSettings,
) -> pd.DataFrame:
    """Logarithm of the kNN density at each item, with the dimension that it was taken with.

    Returns:
        One row per stream, layer and item that takes part, with the columns of `DENSITY`; NaN
        where the dimension is undefined or the graph holds fewer than `density_k` neighbours.
    """
    k, n2 = settings.density_k, settings.density_n2
    frames = []
    for stream in streams:
        for layer in layers:
            graph = read(layer, stream)
            log_density: Any = math.nan
            dimension = error = math.nan
            if _measurable(graph) and graph.indices.shape[1] >= max(k, n2):
                found = {estimate.n2: estimate.dimension for estimate in gride(graph.lengths, n2)}
                dimension = found.get(n2, math.nan)
                if math.isfinite(dimension):
                    log_density, error = knn_log_density(graph.lengths, dimension, k)
            frame = pd.DataFrame({"item_id": graph.kept_ids, "log_density": log_density})
            frames.append(
                frame.assign(
                    subject=subject,
                    probe=probe,
                    stream=stream,
                    layer=int(layer),
                    k=k,
                    dimension=dimension,
                    error=error,
                )
            )
    return pd.concat(frames, ignore_index=True)[DENSITY.names]


def _measurable(graph: NeighbourGraph) -> bool:
    enough = len(graph.rows) >= FEWEST_VECTORS and graph.indices.shape[1] >= 2
    return enough and graph.coincident == 0


_Row = dict[str, Any]


def _row(estimator: str, n1: int, n2: int, interval: str, **values: Any) -> _Row:
    nan = math.nan
    undefined = {"scale": nan, "used": nan, "dimension": nan, "low": nan, "high": nan}
    common = {"estimator": estimator, "n1": n1, "n2": n2, "interval": interval}
    return {**common, "parts": 1, "spread": nan, "plateau": False, **undefined, **values}


def _dimension_rows(
    graph: NeighbourGraph, settings: DimensionSettings, rng: np.random.Generator
) -> list[_Row]:
    if not _measurable(graph):
        rows = [_row("two_nn", 1, 2, "asymptotic"), _row("two_nn_ml", 1, 2, "bootstrap")]
        rows += [_row("gride", n1, n2, "bootstrap") for n1, n2 in settings.scales]
        return [*rows, _row("two_nn_decimated", 1, 2, "asymptotic")]
    algorithm: Literal["base", "ml"] = "ml" if settings.two_nn_fraction == 1 else "base"
    distances, level = graph.lengths, settings.level
    base = two_nn(distances, settings.two_nn_fraction)
    low, high = base.asymptotic_normal_interval(level)
    first = {"scale": base.scale, "used": 1.0}
    rows = [
        _row("two_nn", 1, 2, "asymptotic", dimension=base.dimension, low=low, high=high, **first),
        _maximum_likelihood(distances, settings, rng),
    ]
    rows += _gride_rows(distances, settings, rng)
    curve = decimation_curve(
        graph.indices,
        distances,
        rng=rng,
        fraction=settings.two_nn_fraction,
        algorithm=algorithm,
        fewest=settings.decimated_fewest,
        level=level,
    )
    decimated = [
        _row(
            "two_nn_decimated",
            1,
            2,
            "asymptotic",
            parts=point.parts,
            scale=point.scale,
            used=point.used,
            dimension=point.dimension,
            low=point.low,
            high=point.high,
            spread=point.spread,
        )
        for point in curve
    ] or [_row("two_nn_decimated", 1, 2, "asymptotic")]
    return rows + _with_plateau(decimated, settings)


def _maximum_likelihood(
    distances: Any, settings: DimensionSettings, rng: np.random.Generator
) -> _Row:
    estimate = two_nn(distances, algorithm="ml")
    resampled = gride_interval(
        distances, estimate, resamples=settings.resamples, level=settings.level, rng=rng
    )
    return _row(
        "two_nn_ml",
        1,
        2,
        "bootstrap",
        scale=estimate.scale,
        used=1.0,
        dimension=estimate.dimension,
        low=resampled.low,
        high=resampled.high,
    )


def _gride_rows(
    distances: Any, settings: DimensionSettings, rng: np.random.Generator
) -> list[_Row]:
    found = {estimate.n2: estimate for estimate in gride(distances, settings.gride_range_max)}
    rows = []
    for n1, n2 in settings.scales:
        estimate = found.get(n2)
        if estimate is None:
            rows.append(_row("gride", n1, n2, "bootstrap"))
            continue
        resampled = gride_interval(
            distances, estimate, resamples=settings.resamples, level=settings.level, rng=rng
        )
        rows.append(
            _row(
                "gride",
                n1,
                n2,
                "bootstrap",
                scale=estimate.scale,
                used=1.0,
                dimension=estimate.dimension,
                low=resampled.low,
                high=resampled.high,
            )
        )
    return _with_plateau(rows, settings)


def _with_plateau(rows: list[_Row], settings: DimensionSettings) -> list[_Row]:
    chosen = plateau([row["dimension"] for row in rows], settings.plateau_width)
    if chosen is not None:
        rows[chosen.index] |= {"plateau": True, "spread": chosen.spread}
    return rows
