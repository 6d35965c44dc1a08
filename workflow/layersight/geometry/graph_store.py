"""The neighbour graphs of one subject on one probe set, from activations to files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from layersight import interruption
from layersight.errors import DataError
from layersight.geometry.graph import NeighbourGraph, neighbour_graph, read_graph, write_graph
from layersight.geometry.neighbours import Metric, NeighboursError, Vectors
from layersight.progress import Progress
from layersight.storage.atomic import atomic_folder
from layersight.storage.tables import write_table
from layersight.storage.unfinished import keep_rows, kept_rows

Read = Callable[[int, str], tuple[npt.NDArray[Any], Vectors]]
"""Layer and stream to item ids `(n,)` of str and vectors `(n, d)`."""

SUMMARY_FILE = "summary.parquet"

SUMMARY = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("stream", pa.string()),
        ("layer", pa.int32()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("items", pa.int32()),
        ("distinct", pa.int32()),
        ("copies", pa.int32()),
        ("zeros", pa.int32()),
        ("coincident", pa.int32()),
        ("by_float32", pa.int32()),
        ("by_float64", pa.int32()),
        ("by_differences", pa.int32()),
    ]
)
"""One row a graph: `distinct` items take part, `coincident` ones lie at distance zero from
another; the last three count how neighbours were proven."""


def graph_path(folder: Path, layer: int, stream: str) -> Path:
    """Return the file of one graph."""
    return Path(folder) / f"layer={layer:02d}" / f"{stream}.parquet"


class GraphStore:
    """Reads the neighbour graphs of one subject on one probe set.

    Args:
        folder: what `write_graphs` wrote.
        metric: the metric that is asked for; None takes what there is.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, folder: Path, metric: Metric | None = None) -> None:
        self.folder = Path(folder)
        self._metric = metric
        if not self.folder.is_dir():
            raise DataError(
                f"{self.folder}: no neighbour graphs here; run the rule `find_neighbours`"
            )

    @property
    def layers(self) -> list[int]:
        """Layers that are stored, ascending."""
        return sorted(int(path.name.removeprefix("layer=")) for path in self.folder.glob("layer=*"))

    def streams(self) -> list[str]:
        """Streams that are stored, sorted."""
        return sorted({path.stem for path in self.folder.glob("layer=*/*.parquet")})

    def read(self, layer: int, stream: str) -> NeighbourGraph:
        """Return one graph.

        Raises:
            DataError: it is not there, unreadable, or of another metric.
        """
        return read_graph(graph_path(self.folder, layer, stream), self._metric)


def write_graphs(
    read: Read,
    *,
    subject: str,
    probe: str,
    streams: Sequence[str],
    layers: Sequence[int],
    out: Path,
    k: int,
    metric: Metric = "euclidean",
    device: str = "cpu",
    memory_mb: int = 1024,
    work: Path | None = None,
) -> None:
    """Write the neighbour graph of every stream and layer, and a summary of them.

    Args:
        read: for example `ActivationStore(folder).read`.
        subject, probe: names, for the summary.
        streams, layers: what to read.
        out: folder that appears whole: `layer=NN/<stream>.parquet` and `summary.parquet`.
        k, metric, device, memory_mb: see `graph.neighbour_graph`.
        work: folder for finished graphs, from which the same call goes on; None keeps none.

    Raises:
        DataError: vectors that are missing, not finite, or do not match their ids.
        Interrupted: an end was asked for; finished graphs are kept.
    """
    wanted = [(layer, stream) for layer in layers for stream in streams]
    with _work_folder(work, out) as parts:
        rows = []
        for layer, stream in Progress.over(wanted, f"neighbours of {subject} on {probe}: graph"):
            where = f"stream {stream}, layer {layer}"
            interruption.stop_if_requested(
                f"neighbours of {subject} on {probe}", where, kept=work is not None
            )
            path = graph_path(parts, layer, stream)
            done = kept_rows(parts, f"summary-{layer}-{stream}", SUMMARY)
            if done is None or not path.is_file():
                ids, vectors = read(layer, stream)
                try:
                    graph = neighbour_graph(
                        ids, vectors, k, metric=metric, device=device, memory_mb=memory_mb
                    )
                except NeighboursError as error:
                    raise DataError(f"{subject} on {probe}: {where}: {error}") from None
                write_graph(path, graph)
                key = {"subject": subject, "probe": probe, "stream": stream, "layer": int(layer)}
                done = [{**key, **_facts(graph)}]
                # Last: the graph counts as finished from here on.
                keep_rows(parts, f"summary-{layer}-{stream}", done, SUMMARY)
            rows += done
        with atomic_folder(out) as beside:
            for layer, stream in wanted:
                target = graph_path(beside, layer, stream)
                target.parent.mkdir(parents=True, exist_ok=True)
                _link(graph_path(parts, layer, stream), target)
            write_table(beside / SUMMARY_FILE, rows, SUMMARY)


def _facts(graph: NeighbourGraph) -> dict[str, Any]:
    by_float32, by_float64, by_differences = graph.settled
    return {
        "metric": graph.metric,
        "k": graph.indices.shape[1],
        "items": len(graph.item_ids),
        "distinct": len(graph.rows),
        "copies": graph.copies,
        "zeros": graph.zeros,
        "coincident": graph.coincident,
        "by_float32": by_float32,
        "by_float64": by_float64,
        "by_differences": by_differences,
    }


@contextmanager
def _work_folder(work: Path | None, out: Path) -> Iterator[Path]:
    if work is not None:
        yield Path(work)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.parts-", dir=out.parent) as folder:
        yield Path(folder)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
