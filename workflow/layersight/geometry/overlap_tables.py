"""Tidy tables of overlaps between neighbour graphs, for a range of k, layer by layer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from layersight.errors import DataError
from layersight.geometry.graph import NeighbourGraph, ReadGraph
from layersight.geometry.graph_pairs import matched_neighbours, restricted
from layersight.geometry.neighbours import NeighboursError
from layersight.geometry.overlap import (
    class_weights,
    derangement,
    expected_random_overlap,
    permuted_neighbours,
)
from layersight.geometry.overlap_curves import (
    expected_label_overlap,
    label_overlap_curve,
    label_overlap_of_class_fraction,
    overlap_curve,
)
from layersight.seeds import derive_seed
from layersight.statistics import Interval, percentile_ends, resampled_means

Float64s = npt.NDArray[np.float64]

OVERLAP = pa.schema(
    [
        ("comparison", pa.string()),
        ("subject", pa.string()),
        ("reference", pa.string()),
        ("probe", pa.string()),
        ("reference_probe", pa.string()),
        ("stream", pa.string()),
        ("reference_stream", pa.string()),
        ("layer", pa.int32()),
        ("reference_layer", pa.int32()),
        ("k", pa.int32()),
        ("n", pa.int32()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("random_pairs", pa.float64()),
        ("random_low", pa.float64()),
        ("random_high", pa.float64()),
        ("chance", pa.float64()),
    ]
)
"""Mean share of common neighbours over `n` items, the same with items paired wrongly, and
k / (n - 1). Intervals: percentile bootstrap over items."""

LABEL_OVERLAP = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("stream", pa.string()),
        ("layer", pa.int32()),
        ("label", pa.string()),
        ("weighting", pa.string()),
        ("k", pa.int32()),
        ("class_fraction", pa.float64()),
        ("n", pa.int32()),
        ("classes", pa.int32()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("chance", pa.float64()),
    ]
)
"""Weighting "items": mean over items; "classes": mean over classes of their means. `k` is 0 where
it depends on the class (`class_fraction`), which is NaN elsewhere."""


@dataclass(frozen=True)
class OverlapSettings:
    """What the tables of overlaps compute.

    Attributes:
        ks: numbers of neighbours, below those of the graph.
        class_fractions: numbers of neighbours as shares of the item's class.
        resamples: bootstrap draws behind each interval.
        level: coverage of the intervals.
    """

    ks: tuple[int, ...] = (1, 2, 5, 10, 20, 30, 50, 100)
    class_fractions: tuple[float, ...] = (0.3,)
    resamples: int = 500
    level: float = 0.95


@dataclass(frozen=True)
class Compared:
    """One side of a comparison: whose graphs, of which probe set and stream.

    Attributes:
        read: layer and stream to a graph.
        subject, probe, stream: names.
    """

    read: ReadGraph
    subject: str
    probe: str
    stream: str


def overlap_table(
    pairs: Iterable[tuple[Compared, Compared]],
    *,
    comparison: str,
    layers: Sequence[tuple[int, int]],
    settings: OverlapSettings,
    seed: int,
) -> pd.DataFrame:
    """Neighbourhood overlap of pairs of graphs, for every k.

    - tuned/base: the same probe set and stream of two subjects, layers (l, l);
    - image/text of the same concept: two probe sets or streams of one subject, layers (l, l);
    - consecutive layers: the same twice, layers (l, l + 1), see `consecutive`.

    Items take part that do so in both graphs (no copies, no zero vectors under the cosine metric).

    Args:
        pairs: what is compared with what.
        comparison: name of the comparison, for the table.
        layers: layer of the first and of the second side.
        settings: the range of k and the intervals.
        seed: of the draws; every pair of graphs starts its own.

    Returns:
        One row per pair, layers and k, with the columns of `OVERLAP`; NaN where fewer than `3 k`
        items are left, or a list of neighbours is too short.

    Raises:
        DataError: two graphs hold different items, or an item twice.
    """
    rows = []
    for first, second in pairs:
        graphs: dict[Any, NeighbourGraph] = {}
        for layer, reference_layer in layers:
            # Consecutive layers read each graph once.
            places = ((0, layer), (int(first != second), reference_layer))
            graphs = {
                place: graphs[place] if place in graphs else side.read(place[1], side.stream)
                for place, side in zip(places, (first, second), strict=True)
            }
            key = {
                "comparison": comparison,
                "subject": first.subject,
                "reference": second.subject,
                "probe": first.probe,
                "reference_probe": second.probe,
                "stream": first.stream,
                "reference_stream": second.stream,
                "layer": int(layer),
                "reference_layer": int(reference_layer),
            }
            name = "/".join(str(part) for part in key.values())
            rng = np.random.default_rng(derive_seed(seed, f"overlap/{name}"))
            a, b = (graphs[place] for place in places)
            try:
                found = _overlap_rows(a, b, settings, rng)
            except NeighboursError as error:
                raise DataError(f"{name}: {error}") from None
            rows += [{**key, **row} for row in found]
    return pd.DataFrame(rows, columns=OVERLAP.names)


def consecutive(layers: Sequence[int]) -> list[tuple[int, int]]:
    """Return pairs of each layer and the next one that there is."""
    return list(itertools.pairwise(layers))


def label_overlap_table(
    read: ReadGraph,
    *,
    subject: str,
    probe: str,
    streams: Sequence[str],
    layers: Sequence[int],
    labels: Mapping[str, Mapping[str, Any]],
    settings: OverlapSettings,
    seed: int,
) -> pd.DataFrame:
    """Share of neighbours with the item's label, for every k and every share of the class.

    Args:
        labels: name of a label (category, answer, modality) to the value of every item; items
            with the value None are left out, and their neighbours sought without them.
        read, subject, probe, streams, layers, settings, seed: as in `overlap_table`.

    Returns:
        One row per stream, layer, label, weighting and k or class fraction, with the columns of
        `LABEL_OVERLAP`; NaN where there are too few neighbours or fewer than two items.

    Raises:
        DataError: an item without a label.
    """
    rows = []
    for stream in streams:
        for layer in layers:
            graph = read(layer, stream)
            for name, values in labels.items():
                key = {
                    "subject": subject,
                    "probe": probe,
                    "stream": stream,
                    "layer": int(layer),
                    "label": name,
                }
                where = "/".join(str(part) for part in key.values())
                rng = np.random.default_rng(derive_seed(seed, f"label_overlap/{where}"))
                missing = [item for item in graph.kept_ids.tolist() if item not in values]
                if missing:
                    raise DataError(
                        f"{where}: {len(missing)} of {len(graph.rows)} items have no label (for "
                        f"example {missing[0]!r})."
                    )
                found = [values[item] for item in graph.kept_ids.tolist()]
                labelled = np.flatnonzero([value is not None for value in found])
                codes: dict[Any, int] = {}
                chosen = np.array(
                    [codes.setdefault(found[i], len(codes)) for i in labelled], dtype=np.intp
                )
                indices = restricted(graph.indices, labelled)
                rows += [{**key, **row} for row in _label_rows(indices, chosen, settings, rng)]
    return pd.DataFrame(rows, columns=LABEL_OVERLAP.names)


def _overlap_rows(
    a: NeighbourGraph, b: NeighbourGraph, settings: OverlapSettings, rng: np.random.Generator
) -> list[dict[str, Any]]:
    both = matched_neighbours(a, b)
    n = len(both.item_ids)
    ks = [k for k in settings.ks if k <= both.width and n >= max(3 * k, 3)]
    paired: dict[int, Interval] = {}
    wrong: dict[int, Interval] = {}
    if ks:
        right = _means(overlap_curve(both.in_a, both.in_b, ks), settings, rng)
        paired = dict(zip(ks, right, strict=True))
        moved = permuted_neighbours(both.in_b, derangement(n, rng))
        by_chance = _means(overlap_curve(both.in_a, moved, ks), settings, rng)
        wrong = dict(zip(ks, by_chance, strict=True))
    rows = []
    for k in settings.ks:
        value, random = paired.get(k, _UNDEFINED), wrong.get(k, _UNDEFINED)
        rows.append(
            {
                "k": k,
                "n": n,
                "value": value.value,
                "low": value.low,
                "high": value.high,
                "random_pairs": random.value,
                "random_low": random.low,
                "random_high": random.high,
                "chance": expected_random_overlap(n, k) if k in paired else math.nan,
            }
        )
    return rows


def _label_rows(
    indices: npt.NDArray[np.int32],
    labels: npt.NDArray[np.intp],
    settings: OverlapSettings,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    n, width = indices.shape
    weights = class_weights(labels) if n else np.empty(0)
    chances = expected_label_overlap(labels) if n > 1 else np.full(n, math.nan)
    columns: list[tuple[int, float, Float64s | None]] = []
    ks = [k for k in settings.ks if k <= width and n > 1]
    curve = label_overlap_curve(indices, labels, ks) if ks else np.empty((n, 0))
    for k in settings.ks:
        columns.append((k, math.nan, curve[:, ks.index(k)] if k in ks else None))
    for fraction in settings.class_fractions:
        try:
            share = label_overlap_of_class_fraction(indices, labels, fraction)[0] if n > 1 else None
        except ValueError:  # the graph has too few neighbours for the largest class
            share = None
        columns.append((0, fraction, share))
    rows = []
    for k, fraction, share in columns:
        means = [_UNDEFINED] * 2
        if share is not None:
            means = _means(np.stack([share, share * weights], axis=1), settings, rng)
        expected = (chances.mean(), (chances * weights).mean()) if n > 1 else (math.nan,) * 2
        for weighting, interval, chance in zip(("items", "classes"), means, expected, strict=True):
            rows.append(
                {
                    "weighting": weighting,
                    "k": k,
                    "class_fraction": fraction,
                    "n": n,
                    "classes": len(np.unique(labels)),
                    "value": interval.value,
                    "low": interval.low,
                    "high": interval.high,
                    "chance": chance if share is not None else math.nan,
                }
            )
    return rows


_UNDEFINED = Interval(math.nan, math.nan, math.nan)


def _means(values: Float64s, settings: OverlapSettings, rng: np.random.Generator) -> list[Interval]:
    """Mean of every column with its percentile interval, one draw of items for all."""
    drawn = resampled_means(list(values.T), resamples=settings.resamples, rng=rng)
    return [
        Interval(float(column.mean()), *percentile_ends(replicates, level=settings.level))
        for column, replicates in zip(values.T, drawn.T, strict=True)
    ]
