"""Geometry that reads neighbour graphs, from files to tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from layersight.activations.store import ActivationStore
from layersight.geometry.graph_store import GraphStore, write_graphs
from layersight.geometry.graph_tables import (
    DENSITY,
    DIMENSION,
    DimensionSettings,
    density_table,
    dimension_table,
)
from layersight.geometry.neighbours import Metric
from layersight.geometry.overlap_tables import (
    LABEL_OVERLAP,
    OVERLAP,
    Compared,
    OverlapSettings,
    consecutive,
    label_overlap_table,
    overlap_table,
)
from layersight.storage.tables import write_table


def find_neighbours(
    *,
    subject: str,
    probe: str,
    activations: Path,
    streams: Sequence[str],
    out: Path,
    k: int,
    metric: Metric = "euclidean",
    device: str = "cpu",
    memory_mb: int = 1024,
    work: Path | None = None,
) -> None:
    """Write the neighbour graphs of all layers of one subject on one probe set.

    Args:
        subject, probe: names, for the summary.
        activations: folder of the activations of both.
        streams: those wanted; others that are stored, and those that are not, are left out.
        out: folder of graphs, see `graph_store.write_graphs`.
        k, metric, device, memory_mb: see `neighbours.nearest_neighbours`.
        work: folder for finished graphs, from which the same call goes on.

    Raises:
        DataError: activations that are missing, not finite, or not one vector a row.
    """
    store = ActivationStore(activations)
    write_graphs(
        store.read,
        subject=subject,
        probe=probe,
        streams=_present(streams, store.streams()),
        layers=store.layers,
        out=out,
        k=k,
        metric=metric,
        device=device,
        memory_mb=memory_mb,
        work=work,
    )


def measure_dimension(
    *,
    subject: str,
    graphs: Mapping[str, Path],
    streams: Sequence[str],
    settings: DimensionSettings,
    seed: int,
    dimension_out: Path,
    density_out: Path | None = None,
) -> None:
    """Write intrinsic dimension, and density on request, of all probe sets of one subject.

    Args:
        subject: its name.
        graphs: probe set to its folder of graphs.
        streams: those wanted.
        settings: what is computed.
        seed: of the resampling.
        dimension_out: table with the schema `DIMENSION`.
        density_out: table with the schema `DENSITY`; None writes none.

    Raises:
        DataError: graphs that are missing or unreadable.
    """
    dimensions, densities = [], []
    for probe, folder in graphs.items():
        store = GraphStore(folder)
        common: dict[str, Any] = {
            "subject": subject,
            "probe": probe,
            "streams": _present(streams, store.streams()),
            "layers": store.layers,
            "settings": settings,
        }
        dimensions.append(dimension_table(store.read, **common, seed=seed))
        if density_out is not None:
            densities.append(density_table(store.read, **common))
    write_table(dimension_out, pd.concat(dimensions, ignore_index=True), DIMENSION)
    if density_out is not None:
        write_table(density_out, pd.concat(densities, ignore_index=True), DENSITY)


def measure_overlap_with_reference(
    *,
    subject: str,
    reference: str,
    graphs: Mapping[str, Path],
    reference_graphs: Mapping[str, Path],
    streams: Sequence[str],
    settings: OverlapSettings,
    seed: int,
    out: Path,
) -> None:
    """Write the overlap of a subject with a reference ("tuned_base"), layer by layer.

    Args:
        subject, reference: names.
        graphs, reference_graphs: probe set to the folders of graphs of both.
        streams, settings, seed: as in `measure_dimension`.
        out: table with the schema `OVERLAP`.

    Raises:
        DataError: graphs that are missing or hold different items.
    """
    frames = []
    for probe, folder in graphs.items():
        store, before = GraphStore(folder), GraphStore(reference_graphs[probe])
        pairs = [
            (
                Compared(store.read, subject, probe, stream),
                Compared(before.read, reference, probe, stream),
            )
            for stream in _present(streams, store.streams())
        ]
        layers = [(layer, layer) for layer in store.layers]
        frames.append(
            overlap_table(
                pairs, comparison="tuned_base", layers=layers, settings=settings, seed=seed
            )
        )
    write_table(out, pd.concat(frames, ignore_index=True), OVERLAP)


def measure_overlap_within(
    *,
    subject: str,
    graphs: Mapping[str, Path],
    streams: Sequence[str],
    modalities: Sequence[tuple[str, str, str, str]],
    settings: OverlapSettings,
    seed: int,
    out: Path,
) -> None:
    """Write what one subject's graphs share: consecutive layers, and image with text.

    Args:
        subject: its name.
        graphs: probe set to its folder of graphs.
        streams: those whose consecutive layers are compared.
        modalities: probe set and stream of the images, then of the text; pairs whose probe sets
            are not in `graphs` are left out.
        settings, seed: as in `measure_dimension`.
        out: table with the schema `OVERLAP`, comparisons "consecutive" and "image_text".

    Raises:
        DataError: graphs that are missing or hold different items.
    """
    stores = {probe: GraphStore(folder) for probe, folder in graphs.items()}
    frames = []
    for probe, store in stores.items():
        sides = [
            Compared(store.read, subject, probe, stream)
            for stream in _present(streams, store.streams())
        ]
        frames.append(
            overlap_table(
                [(side, side) for side in sides],
                comparison="consecutive",
                layers=consecutive(store.layers),
                settings=settings,
                seed=seed,
            )
        )
    for image_probe, image_stream, text_probe, text_stream in modalities:
        if not {image_probe, text_probe} <= stores.keys():
            continue
        images, words = stores[image_probe], stores[text_probe]
        pair = (
            Compared(images.read, subject, image_probe, image_stream),
            Compared(words.read, subject, text_probe, text_stream),
        )
        layers = [(layer, layer) for layer in images.layers]
        frames.append(
            overlap_table(
                [pair], comparison="image_text", layers=layers, settings=settings, seed=seed
            )
        )
    write_table(out, pd.concat(frames, ignore_index=True), OVERLAP)


def measure_label_overlap(
    *,
    subject: str,
    graphs: Mapping[str, Path],
    streams: Sequence[str],
    labels: Mapping[str, Mapping[str, Mapping[str, Any]]],
    settings: OverlapSettings,
    seed: int,
    out: Path,
) -> None:
    """Write how far neighbours share the item's labels.

    Args:
        subject: its name.
        graphs: probe set to its folder of graphs.
        streams, settings, seed: as in `measure_dimension`.
        labels: probe set to name of the label to value of every item (None: no value).
        out: table with the schema `LABEL_OVERLAP`.

    Raises:
        DataError: graphs that are missing, or an item that is not among the labels.
    """
    frames = []
    for probe, folder in graphs.items():
        store = GraphStore(folder)
        frames.append(
            label_overlap_table(
                store.read,
                subject=subject,
                probe=probe,
                streams=_present(streams, store.streams()),
                layers=store.layers,
                labels=labels.get(probe, {}),
                settings=settings,
                seed=seed,
            )
        )
    write_table(out, pd.concat(frames, ignore_index=True), LABEL_OVERLAP)


def _present(wanted: Sequence[str], stored: Sequence[str]) -> list[str]:
    return [stream for stream in wanted if stream in set(stored)]
