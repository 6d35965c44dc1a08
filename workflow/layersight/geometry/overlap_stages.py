"""Overlaps of neighbour graphs, from files to tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from layersight.data.schemas import PROBE
from layersight.geometry.graph_store import GraphStore
from layersight.geometry.overlap_tables import (
    LABEL_OVERLAP,
    OVERLAP,
    Compared,
    OverlapSettings,
    consecutive,
    label_overlap_table,
    overlap_table,
)
from layersight.geometry.pairs import pairs_of
from layersight.progress import Progress
from layersight.storage.tables import read_columns, write_table

LABELS = ("kind", "subgroup")
"""Columns of a probe set that neighbours are asked for: the answer to its questions, and the finer
category."""


def labels_of_probe(table: Path) -> dict[str, dict[str, Any]]:
    """Return label to item id to value, from the table of a probe set."""
    fields = [PROBE.field("item_id"), *(PROBE.field(name) for name in LABELS)]
    frame = read_columns(table, pa.schema(fields)).to_pandas().set_index("item_id")
    return {name: frame[name].to_dict() for name in LABELS}


def measure_overlaps(
    *,
    subject: str,
    reference: str,
    graphs: Mapping[str, Path],
    reference_graphs: Mapping[str, Path],
    probes: Mapping[str, Path],
    streams: Sequence[str],
    settings: OverlapSettings,
    seed: int,
    out: Path,
    labels_out: Path,
) -> None:
    """Write what one subject's neighbour graphs share, layer by layer.

    Comparisons: "tuned_base", with the reference's graphs, where there are any; "consecutive", with
    the graph of the next layer; "image_text", images with the words for the same things.

    Args:
        subject, reference: names.
        graphs, reference_graphs: probe set to its folder of graphs.
        probes: probe set to its table, for the labels of its items.
        streams: those wanted.
        settings: the range of k and the intervals.
        seed: of the draws.
        out: table with the schema `OVERLAP`.
        labels_out: table with the schema `LABEL_OVERLAP`.

    Raises:
        DataError: graphs that are missing or hold different items, or an item without a label.
    """
    stores = {probe: GraphStore(folder) for probe, folder in graphs.items()}
    frames, labelled = [], []
    common: dict[str, Any] = {"settings": settings, "seed": seed}
    for probe in Progress.over(list(stores), f"overlaps of {subject}: probe set"):
        store = stores[probe]
        stored = store.streams()
        wanted = [stream for stream in streams if stream in stored]
        own = {stream: Compared(store.read, subject, probe, stream) for stream in wanted}
        if probe in reference_graphs:
            before = GraphStore(reference_graphs[probe])
            frames.append(
                overlap_table(
                    [
                        (own[stream], Compared(before.read, reference, probe, stream))
                        for stream in wanted
                    ],
                    comparison="tuned_base",
                    layers=[(layer, layer) for layer in store.layers],
                    **common,
                )
            )
        frames.append(
            overlap_table(
                [(side, side) for side in own.values()],
                comparison="consecutive",
                layers=consecutive(store.layers),
                **common,
            )
        )
        labelled.append(
            label_overlap_table(
                store.read,
                subject=subject,
                probe=probe,
                streams=wanted,
                layers=store.layers,
                labels=labels_of_probe(probes[probe]),
                **common,
            )
        )
    for _, images, words, image_stream, text_stream in pairs_of(list(stores), streams):
        pair = (
            Compared(stores[images].read, subject, images, image_stream),
            Compared(stores[words].read, subject, words, text_stream),
        )
        layers = [(layer, layer) for layer in stores[images].layers]
        frames.append(overlap_table([pair], comparison="image_text", layers=layers, **common))
    write_table(out, pd.concat(frames, ignore_index=True), OVERLAP)
    write_table(labels_out, pd.concat(labelled, ignore_index=True), LABEL_OVERLAP)
