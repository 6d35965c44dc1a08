"""Geometry that reads neighbour graphs, from files to tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from layersight.activations.store import ActivationStore
from layersight.errors import DataError
from layersight.geometry.graph_store import GraphStore, write_graphs
from layersight.geometry.graph_tables import (
    DENSITY,
    DIMENSION,
    DimensionSettings,
    density_table,
    dimension_table,
)
from layersight.geometry.neighbours import Metric, Vectors
from layersight.geometry.stage_tools import present, say_undefined
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
        streams=present(streams, store.streams()),
        layers=store.layers,
        out=out,
        k=k,
        metric=metric,
        device=device,
        memory_mb=memory_mb,
        work=work,
    )


def find_pair_neighbours(
    *,
    subject: str,
    pair: str,
    activations: Path,
    image_probe: str,
    text_probe: str,
    streams: Mapping[str, tuple[str, str]],
    out: Path,
    k: int,
    metric: Metric = "euclidean",
    device: str = "cpu",
    memory_mb: int = 1024,
    work: Path | None = None,
    unit: bool = True,
) -> None:
    """Write the neighbour graphs of the cloud of images and the cloud of words, taken together.

    The graph of a pooled stream has the items `image:<id>`, in the order of the images, and after
    them `text:<id>`: who is whose neighbour says whether the two modalities live apart.

    Args:
        subject, pair: names, for the summary (`pair` as its probe).
        activations: folder of the subject's activations, a folder a probe set.
        image_probe, text_probe: probe sets.
        streams: name of a pooled stream to the stream of the images and that of the words.
        out: folder of graphs, see `graph_store.write_graphs`.
        k, metric, device, memory_mb: see `neighbours.nearest_neighbours`.
        work: folder for finished graphs, from which the same call goes on.
        unit: divide every vector by its length first, which puts both clouds on one sphere; a zero
            vector stays where it is.

    Raises:
        DataError: activations that are missing, not finite, of layers or widths that differ, or
            not one vector an item.
    """
    images = ActivationStore(activations / image_probe)
    words = ActivationStore(activations / text_probe)
    if images.layers != words.layers:
        raise DataError(
            f"{images.folder} and {words.folder}: the two hold different layers, "
            f"{images.layers} and {words.layers}"
        )

    def read(layer: int, stream: str) -> tuple[npt.NDArray[Any], Vectors]:
        image_stream, text_stream = streams[stream]
        image_ids, image = images.read(layer, image_stream)
        text_ids, text = words.read(layer, text_stream)
        if image.shape[1] != text.shape[1]:
            raise DataError(
                f"{images.folder} and {words.folder}: vectors of {image.shape[1]} and "
                f"{text.shape[1]} numbers at layer {layer}"
            )
        ids = [f"image:{item}" for item in image_ids] + [f"text:{item}" for item in text_ids]
        both: Vectors = np.concatenate([image, text])
        return np.array(ids), on_unit_sphere(both) if unit else both

    write_graphs(
        read,
        subject=subject,
        probe=pair,
        streams=list(streams),
        layers=images.layers,
        out=out,
        k=k,
        metric=metric,
        device=device,
        memory_mb=memory_mb,
        work=work,
    )


def on_unit_sphere(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Return `(n, d)` rows of length one in float64; rows of length zero stay zero."""
    rows = vectors.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = np.divide(rows, lengths, out=rows, where=lengths > 0)
    return unit


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
            "streams": present(streams, store.streams()),
            "layers": store.layers,
            "settings": settings,
        }
        frame = dimension_table(store.read, **common, seed=seed)
        # That a decimation curve ends is no news.
        curves = frame[frame["estimator"] != "two_nn_decimated"]
        say_undefined(
            curves.rename(columns={"dimension": "value", "estimator": "metric"}),
            ["stream", "metric"],
            f"{subject} on {probe}",
        )
        dimensions.append(frame)
        if density_out is not None:
            densities.append(density_table(store.read, **common))
    write_table(dimension_out, pd.concat(dimensions, ignore_index=True), DIMENSION)
    if density_out is not None:
        write_table(density_out, pd.concat(densities, ignore_index=True), DENSITY)
