"""Tidy tables of geometry over layers and streams, one row per number.

Every table works on any source of vectors: a callable `Read` that, for a layer and a stream,
returns item ids and vectors. A layer at which something is undefined (all items share one vector,
as the last token does before block 0) gives rows with NaN, never a gap and never a failure.
Random draws start afresh for each table, stream and layer, so that no number depends on which
others are computed or in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from layersight.errors import DataError
from layersight.geometry.alignment import cka_with_interval, paired_cosines
from layersight.geometry.change import relative_norm_of_difference
from layersight.geometry.graph import NeighbourGraph, ReadGraph
from layersight.geometry.graph_pairs import MatchedNeighbours, matched_neighbours
from layersight.geometry.neighbours import Metric, NeighboursError
from layersight.geometry.overlap import (
    derangement,
    label_overlap,
    neighbourhood_overlap,
    overlap_within_groups,
    random_pair_overlap,
)
from layersight.seeds import derive_seed
from layersight.statistics import Interval, bootstrap_mean

Vectors = npt.NDArray[np.float32]
Ids = npt.NDArray[Any]
Read = Callable[[int, str], tuple[Ids, Vectors]]
"""Layer and stream to item ids `(n,)` of str and vectors `(n, d)` float32."""


class VectorsError(DataError, ValueError):
    """Vectors or item ids from which nothing can be measured: stored wrongly, or not paired."""


UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))

CHANGE_COLUMNS = [
    "subject", "reference", "probe", "stream", "layer", "metric", "k", "n", "value", "low", "high",
]  # fmt: skip
CROSS_MODAL_COLUMNS = [
    "subject", "stream_image", "stream_text", "layer", "metric", "k", "n", "value", "low", "high",
]  # fmt: skip


FEWEST_VECTORS = 10
"""Distinct vectors that an intrinsic dimension is estimated from, at least."""


@dataclass(frozen=True)
class GeometrySettings:
    """What the tables compute.

    Attributes:
        k: number of neighbours for overlaps.
        metric: distance between vectors, that of the graphs.
        resamples: bootstrap or subsampling draws behind each interval.
        level: coverage of the intervals.
    """

    k: int = 10
    metric: Metric = "euclidean"
    resamples: int = 500
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}; it must be at least 1.")
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"metric is {self.metric!r}; known are 'euclidean' and 'cosine'.")
        if self.resamples < 1:
            raise ValueError(f"resamples is {self.resamples}; it must be at least 1.")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}; it must lie in (0, 1).")


def change_table(
    read_reference: Read,
    read_subject: Read,
    *,
    reference_graph: ReadGraph,
    subject_graph: ReadGraph,
    subject: str,
    reference: str,
    probe: str,
    streams: Sequence[str],
    layers: Sequence[int],
    settings: GeometrySettings,
    seed: int,
) -> pd.DataFrame:
    """How the representations of one subject differ from those of a reference.

    Items are matched by id. The overlap reads neighbour graphs and leaves out items whose vector
    copies that of an earlier item in either space: ties are broken by index in both, which would
    look like agreement.

    Args:
        read_reference, read_subject: vectors of both.
        reference_graph, subject_graph: neighbour graphs of the same vectors.
        subject, reference, probe: names.
        streams, layers: what is read.
        settings: what is computed.
        seed: of the draws.

    Returns:
        One row per stream, layer and metric ("overlap", "cka", "relative_norm"), with columns
        `CHANGE_COLUMNS`: `k` is 0 where no neighbours are used and `n` counts the items used.
        Intervals: percentile bootstrap over items; for CKA, subsampling. NaN for an overlap of
        fewer than `3 k` items, or where a graph holds fewer than `k` neighbours of an item that
        take part, and for a CKA or norm that is undefined.

    Raises:
        VectorsError: when the two hold different items, an item twice, or invalid vectors.
    """
    rows = []
    for stream in streams:
        for layer in layers:
            rng = _generator(seed, f"change/{stream}", layer)
            where = f"stream {stream!r}, layer {layer}"
            ids, before = checked(read_reference, layer, stream)
            after = matched(ids, *checked(read_subject, layer, stream), where)
            if before.shape != after.shape:
                raise VectorsError(
                    f"{where}: vectors of {reference!r} have {before.shape[1]} dimensions, "
                    f"those of {subject!r} {after.shape[1]}."
                )
            graphs = reference_graph(layer, stream), subject_graph(layer, stream)
            both = _matched_graphs(ids, *graphs, where)
            values = {
                "overlap": _overlap(both, settings, rng),
                "cka": (0, len(before), _cka(before, after, settings, rng)),
                "relative_norm": (
                    0,
                    *_mean(relative_norm_of_difference(before, after), settings, rng),
                ),
            }
            key = {"subject": subject, "reference": reference, "probe": probe, "stream": stream}
            rows += _rows({**key, "layer": int(layer)}, values)
    return pd.DataFrame(rows, columns=CHANGE_COLUMNS)


def cross_modal_table(
    read_image: Read,
    read_text: Read,
    *,
    image_graph: ReadGraph,
    text_graph: ReadGraph,
    subject: str,
    stream_image: str,
    stream_text: str,
    groups: Mapping[str, Any],
    layers: Sequence[int],
    settings: GeometrySettings,
    seed: int,
) -> pd.DataFrame:
    """How far the representation of an image agrees with that of its description.

    Rows of the two streams pair up by item id. Each metric of pairs has a control with wrong
    pairs (`_random_pairs`, see `overlap.derangement`; inside groups for the overlap within
    groups). Overlaps read neighbour graphs and leave out items whose vector copies that of an
    earlier item in either modality, and the overlap within groups also groups with fewer than
    `k + 2` items; it is NaN where a graph holds fewer than `k` neighbours of the item's group.

    Args:
        read_image, read_text: vectors of both.
        image_graph, text_graph: neighbour graphs of the same vectors.
        subject: its name.
        stream_image, stream_text: what is read of each.
        groups: item id to group, such as the class or the main object; the labels of the label
            overlaps, which are plain shares without class weights.
        layers: what is read.
        settings: what is computed.
        seed: of the draws.

    Returns:
        One row per layer and metric, with columns `CROSS_MODAL_COLUMNS`; metrics are overlap,
        overlap_within_group, cka, cosine and cosine_centred, each also with `_random_pairs`, and
        label_overlap_image and label_overlap_text. `k` is 0 where no neighbours are used and `n`
        counts the items used. Intervals and NaN as in `change_table`.

    Raises:
        VectorsError: when the two hold different items, an item twice, an item without a group,
            or invalid vectors.
    """
    rows = []
    for layer in layers:
        rng = _generator(seed, f"cross_modal/{stream_image}/{stream_text}", layer)
        where = f"streams {stream_image!r} and {stream_text!r}, layer {layer}"
        ids, image = checked(read_image, layer, stream_image)
        text = matched(ids, *checked(read_text, layer, stream_text), where)
        labels = labels_of(ids, groups, where)
        graphs = image_graph(layer, stream_image), text_graph(layer, stream_text)
        both = _matched_graphs(ids, *graphs, where)
        place = {item: row for row, item in enumerate(ids.tolist())}
        theirs = labels[[place[item] for item in both.item_ids.tolist()]]
        values = _cross_modal_neighbours(both, theirs, settings, rng)
        values["cka"] = (0, len(ids), _cka(image, text, settings, rng))
        wrong = text[derangement(len(ids), rng)] if len(ids) > 1 else text
        values["cka_random_pairs"] = (0, len(ids), _cka(image, wrong, settings, rng))
        values |= _cosines(image, text, settings, rng, where)
        key = {"subject": subject, "stream_image": stream_image, "stream_text": stream_text}
        rows += _rows({**key, "layer": int(layer)}, values)
    return pd.DataFrame(rows, columns=CROSS_MODAL_COLUMNS)


_Value = tuple[int, int, Interval]  # k, n, value with interval


def _rows(key: Mapping[str, Any], values: Mapping[str, _Value]) -> list[dict[str, Any]]:
    return [
        {
            **key,
            "metric": metric,
            "k": k,
            "n": n,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
        }
        for metric, (k, n, interval) in values.items()
    ]


def _generator(seed: int, table: str, layer: int) -> np.random.Generator:
    return np.random.default_rng(derive_seed(seed, f"geometry/{table}/{int(layer)}"))


def checked(read: Read, layer: int, stream: str) -> tuple[Ids, Vectors]:
    """Read the item ids `(n,)` and vectors `(n, d)` float32 of one layer and stream.

    Raises:
        VectorsError: vectors that are not one an item, none at all, or not finite.
    """
    ids, vectors = read(layer, stream)
    where = f"stream {stream!r}, layer {layer}"
    if vectors.ndim != 2 or len(ids) != len(vectors) or vectors.size == 0:
        raise VectorsError(
            f"{where}: {len(ids)} item ids and vectors of shape {vectors.shape}; one vector per "
            "item, and at least one, is needed."
        )
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise VectorsError(
            f"{where}: {np.count_nonzero(~finite)} of {len(ids)} vectors hold NaN or infinity "
            f"(the first is item {ids[int(np.argmin(finite))]!r})."
        )
    return np.asarray(ids), np.asarray(vectors, dtype=np.float32)


def matched(ids: Ids, other_ids: Ids, other: Vectors, where: str) -> Vectors:
    """Return the rows of `other` in the order of `ids`.

    Args:
        ids: `(n,)`, the wanted order.
        other_ids: `(n,)`, those of the rows of `other`, in any order.
        other: `(n, ...)`.
        where: stream and layer, for messages.

    Raises:
        VectorsError: the two hold different items, or an item twice.
    """
    place = {item: row for row, item in enumerate(other_ids.tolist())}
    wanted = ids.tolist()
    if len(place) != len(other_ids) or len(set(wanted)) != len(wanted):
        raise VectorsError(f"{where}: an item id occurs twice, so that items cannot be paired.")
    missing, extra = set(wanted) - place.keys(), place.keys() - set(wanted)
    if missing or extra:
        example = min(missing | extra)
        raise VectorsError(
            f"{where}: the two sides hold different items: {len(missing)} only on the first, "
            f"{len(extra)} only on the second (for example {example!r})."
        )
    return other[[place[item] for item in wanted]]


def labels_of(ids: Ids, groups: Mapping[str, Any], where: str) -> npt.NDArray[Any]:
    """Return the group of every item as a number, `(n,)` int: 0 for the first that is met.

    Args:
        ids: `(n,)`.
        groups: item id to group.
        where: stream and layer, for messages.

    Raises:
        VectorsError: an item without a group.
    """
    missing = [item for item in ids.tolist() if item not in groups]
    if missing:
        raise VectorsError(
            f"{where}: {len(missing)} of {len(ids)} items have no group (for example "
            f"{missing[0]!r})."
        )
    # As codes, so that groups of any type (and of mixed types) can be compared in an array.
    codes: dict[Any, int] = {}
    return np.array([codes.setdefault(groups[item], len(codes)) for item in ids.tolist()])


def _mean(
    values: npt.NDArray[np.float64], settings: GeometrySettings, rng: np.random.Generator
) -> tuple[int, Interval]:
    """Number of items at which the value is defined, and the mean over them."""
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return 0, UNDEFINED
    found = bootstrap_mean(defined, resamples=settings.resamples, level=settings.level, rng=rng)
    return len(defined), found


def _cka(x: Vectors, y: Vectors, settings: GeometrySettings, rng: np.random.Generator) -> Interval:
    if len(x) < 3:  # two items in each space always agree, and a subset would be one item
        return UNDEFINED
    return cka_with_interval(x, y, resamples=settings.resamples, level=settings.level, rng=rng)


def _matched_graphs(
    ids: Ids, first: NeighbourGraph, second: NeighbourGraph, where: str
) -> MatchedNeighbours:
    """Neighbours of the items that take part in both graphs, which are those of the vectors."""
    if not np.array_equal(first.item_ids, ids):
        raise VectorsError(
            f"{where}: the neighbour graph holds other items than the activations; make it anew "
            "from them (rule find_neighbours)."
        )
    try:
        return matched_neighbours(first, second)
    except NeighboursError as error:
        raise VectorsError(f"{where}: neighbours: {error}") from None


def _overlap(
    both: MatchedNeighbours, settings: GeometrySettings, rng: np.random.Generator
) -> _Value:
    k, n = settings.k, len(both.item_ids)
    if n < max(3 * k, 3) or both.width < k:
        return k, n, UNDEFINED
    return k, *_mean(neighbourhood_overlap(both.in_a, both.in_b, k), settings, rng)


def _cross_modal_neighbours(
    both: MatchedNeighbours,
    labels: npt.NDArray[Any],
    settings: GeometrySettings,
    rng: np.random.Generator,
) -> dict[str, _Value]:
    k, n = settings.k, len(both.item_ids)
    names = (
        "overlap",
        "overlap_random_pairs",
        "overlap_within_group",
        "overlap_within_group_random_pairs",
        "label_overlap_image",
        "label_overlap_text",
    )
    if n < max(3 * k, 3) or both.width < k:
        return {name: (k, n, UNDEFINED) for name in names}
    within = overlap_within_groups(both.in_a, both.in_b, labels, k, rng=rng)
    per_item = (
        neighbourhood_overlap(both.in_a, both.in_b, k),
        random_pair_overlap(both.in_a, both.in_b, k, rng),
        within.paired,
        within.random_pairs,
        label_overlap(both.in_a, labels, k),
        label_overlap(both.in_b, labels, k),
    )
    found: dict[str, _Value] = {
        name: (k, *_mean(values, settings, rng))
        for name, values in zip(names, per_item, strict=True)
    }
    if within.items_unknown:
        # A mean over the other groups would be one of groups that happen to be dense.
        inside = n - within.items_left_out
        for name in ("overlap_within_group", "overlap_within_group_random_pairs"):
            found[name] = (k, inside, UNDEFINED)
    return found


def _cosines(
    image: Vectors,
    text: Vectors,
    settings: GeometrySettings,
    rng: np.random.Generator,
    where: str,
) -> dict[str, _Value]:
    names = ("cosine", "cosine_random_pairs", "cosine_centred", "cosine_centred_random_pairs")
    if len(image) < 2:
        return {name: (0, len(image), UNDEFINED) for name in names}
    if image.shape != text.shape:
        raise VectorsError(
            f"{where}: vectors have {image.shape[1]} and {text.shape[1]} dimensions; a cosine "
            "needs the same."
        )
    found = paired_cosines(image, text, rng=rng)
    per_item = (found.raw, found.raw_random_pairs, found.centred, found.centred_random_pairs)
    return {
        name: (0, *_mean(values, settings, rng))
        for name, values in zip(names, per_item, strict=True)
    }
