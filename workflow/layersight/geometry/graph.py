"""The neighbour graph: found once for a subject, probe set, stream and layer, then read.

One Parquet file a graph, `<folder>/layer=NN/<stream>.parquet`, with one row an item in the order of
the activations. `neighbours` holds row numbers of the same file, nearest first, and `distances`
what belongs to them. Items that take no part have empty lists and a `status` that says why:

- "copy": the vector equals that of an earlier row, `copy_of`. Ratios of distances to a copy are
  undefined, and copies as neighbours of one another would look like agreement of two spaces.
- "zero": a zero vector under the cosine metric, which has no direction.

So a graph is one of distinct vectors, however many items share one (as all do that are read off
the same token before block 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from layersight.errors import DataError
from layersight.geometry.neighbours import (
    Metric,
    NeighboursError,
    Vectors,
    check_finite,
    first_equal_rows,
    nearest_neighbours,
    zero_rows,
)
from layersight.storage.tables import read_table, write_table

Ids = npt.NDArray[Any]
Indices = npt.NDArray[np.int32]
Float64s = npt.NDArray[np.float64]

KEPT, COPY, ZERO = "kept", "copy", "zero"

GRAPH = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("copy_of", pa.int32()),
        pa.field("is_zero", pa.bool_(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("neighbours", pa.list_(pa.int32()), nullable=False),
        pa.field("distances", pa.list_(pa.float64()), nullable=False),
    ]
)


@dataclass(frozen=True)
class NeighbourGraph:
    """Exact nearest neighbours of the distinct vectors of one cloud.

    Attributes:
        item_ids: `(n,)` str, of all rows.
        copy_of: `(n,)` int, the first row with the same vector, the row itself if it is the first.
        zero: `(n,)` bool, the zero vectors.
        rows: `(m,)` int, the rows that take part, ascending.
        indices: `(m, k)` int32, neighbours as positions in `rows`, nearest first.
        distances: `(m, k)` float64, in units of the vectors, or `1 - cos`.
        metric: "euclidean" or "cosine".
        settled: how the neighbours were proven, see `Neighbours`; zeros for a graph that was read.
    """

    item_ids: Ids
    copy_of: npt.NDArray[np.intp]
    zero: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.intp]
    indices: Indices
    distances: Float64s
    metric: Metric
    settled: tuple[int, int, int] = (0, 0, 0)

    @property
    def kept_ids(self) -> Ids:
        """Ids of the items that take part, `(m,)`."""
        return self.item_ids[self.rows]

    @property
    def copies(self) -> int:
        """Number of rows whose vector equals that of an earlier row."""
        return int(np.count_nonzero(self.copy_of != np.arange(len(self.copy_of))))

    @property
    def zeros(self) -> int:
        """Number of zero vectors, copies of one another included."""
        return int(np.count_nonzero(self.zero))

    @property
    def coincident(self) -> int:
        """Distinct vectors at distance zero from another: parallel (cosine), or an underflow."""
        if self.indices.shape[1] == 0:
            return 0
        return int(np.count_nonzero(self.distances[:, 0] == 0))

    @property
    def lengths(self) -> Float64s:
        """Distances that grow linearly with a displacement, `(m, k)`: what ratios are taken of.

        Under the cosine metric the chord of the unit sphere, sqrt(2 (1 - cos)): `1 - cos` grows
        with the square of a displacement, and its ratios would give half the dimension.
        """
        if self.metric == "cosine":
            return np.sqrt(2 * self.distances)
        return self.distances


ReadGraph = Callable[[int, str], NeighbourGraph]
"""Layer and stream to a graph, for example `GraphStore.read`."""


def neighbour_graph(
    item_ids: Ids,
    vectors: Vectors,
    k: int,
    *,
    metric: Metric = "euclidean",
    device: str = "cpu",
    memory_mb: int = 1024,
) -> NeighbourGraph:
    """Find the neighbours of the distinct vectors of one cloud.

    Args:
        item_ids: `(n,)` of the rows; may repeat (tokens of one item).
        vectors: `(n, d)`, float16, float32 or float64.
        k: number of neighbours; less where fewer distinct vectors exist, down to 0 for one.
        metric: "euclidean" or "cosine".
        device, memory_mb: see `neighbours.nearest_neighbours`. Where there are copies, the
            distinct vectors are copied once, beyond the stated memory.

    Raises:
        NeighboursError: as `nearest_neighbours`, for ids that do not match, or `k` below 1.
    """
    if vectors.ndim != 2 or len(item_ids) != len(vectors) or vectors.size == 0:
        raise NeighboursError(
            f"{len(item_ids)} item ids and vectors of shape {vectors.shape}; one vector per item, "
            "and at least one, is needed."
        )
    if k < 1:
        raise NeighboursError(f"k is {k}; it must be at least 1.")
    check_finite(vectors)
    copy_of, zero = first_equal_rows(vectors), zero_rows(vectors)
    takes_part = copy_of == np.arange(len(vectors))
    if metric == "cosine":
        takes_part &= ~zero
    rows = np.flatnonzero(takes_part)
    k = min(k, len(rows) - 1)
    common: dict[str, Any] = {
        "item_ids": np.asarray(item_ids),
        "copy_of": copy_of,
        "zero": zero,
        "rows": rows,
    }
    if k < 1:
        none = np.empty((len(rows), 0))
        return NeighbourGraph(
            **common, indices=none.astype(np.int32), distances=none, metric=metric
        )
    found = nearest_neighbours(
        vectors if takes_part.all() else vectors[rows],
        k,
        metric=metric,
        device=device,
        memory_mb=memory_mb,
        count_duplicates=False,
    )
    return NeighbourGraph(
        **common,
        indices=found.indices,
        distances=found.distances,
        metric=metric,
        settled=found.settled,
    )


def write_graph(path: Path, graph: NeighbourGraph) -> None:
    """Write one graph as Parquet with the schema `GRAPH`, atomically."""
    n, k = len(graph.item_ids), graph.indices.shape[1]
    status = np.full(n, KEPT, dtype=object)
    left_out = np.ones(n, dtype=np.bool_)
    left_out[graph.rows] = False
    status[left_out] = np.where(
        graph.zero[left_out] & (graph.metric == "cosine"), ZERO, COPY
    ).astype(object)
    first = graph.copy_of == np.arange(n)
    counts = np.zeros(n, dtype=np.int64)
    counts[graph.rows] = k
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    neighbours = graph.rows[graph.indices].astype(np.int32).reshape(-1)
    columns = {
        "item_id": pa.array(graph.item_ids.astype(str), pa.string()),
        "row": pa.array(np.arange(n, dtype=np.int32)),
        "status": pa.array(status, pa.string()),
        "copy_of": pa.array(graph.copy_of.astype(np.int32), mask=first),
        "is_zero": pa.array(graph.zero),
        "metric": pa.array([graph.metric] * n, pa.string()),
        "neighbours": pa.ListArray.from_arrays(offsets, pa.array(neighbours)),
        "distances": pa.ListArray.from_arrays(offsets, pa.array(graph.distances.reshape(-1))),
    }
    write_table(path, pa.table(columns), GRAPH)


def read_graph(path: Path, metric: Metric | None = None) -> NeighbourGraph:
    """Read what `write_graph` wrote.

    Args:
        path: the file.
        metric: the metric that the reader means to have; None takes any.

    Raises:
        DataError: not such a table, lists of unequal lengths, row numbers that do not fit, or
            another metric.
    """
    table = read_table(path, GRAPH)
    found = set(table.column("metric").to_pylist())
    if len(found) != 1 or not found <= {"euclidean", "cosine"}:
        raise DataError(f"{path}: the metric is {sorted(found)}; one of euclidean, cosine expected")
    (stored,) = found
    if metric not in (None, stored):
        raise DataError(f"{path}: holds neighbours by {stored} distance; {metric} is asked for")
    n = table.num_rows
    if not np.array_equal(table.column("row").to_numpy(), np.arange(n)):
        raise DataError(f"{path}: column row: must count from 0; rows are missing or out of order")
    kept = table.column("status").to_numpy(zero_copy_only=False) == KEPT
    rows = np.flatnonzero(kept)
    neighbours = _lists(path, table, "neighbours", kept)
    distances = _lists(path, table, "distances", kept)
    if neighbours.shape != distances.shape:
        raise DataError(f"{path}: neighbours and distances differ in number")
    if neighbours.size and not (
        neighbours.min() >= 0 and neighbours.max() < n and kept[neighbours].all()
    ):
        raise DataError(f"{path}: column neighbours: names a row that takes no part")
    position = np.full(n, -1, dtype=np.int32)
    position[rows] = np.arange(len(rows), dtype=np.int32)
    copy_of = table.column("copy_of").to_numpy(zero_copy_only=False)
    copy_of = np.where(np.isnan(copy_of), np.arange(n), copy_of).astype(np.intp)
    return NeighbourGraph(
        item_ids=table.column("item_id").to_numpy(zero_copy_only=False).astype(str),
        copy_of=copy_of,
        zero=table.column("is_zero").to_numpy(zero_copy_only=False).astype(np.bool_),
        rows=rows,
        indices=position[neighbours],
        distances=distances,
        metric=stored,
    )


def _lists(path: Path, table: pa.Table, name: str, kept: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # a column without chunks
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    counts = np.diff(column.offsets.to_numpy())
    k = int(counts[kept][0]) if kept.any() else 0
    if not (counts == np.where(kept, k, 0)).all():
        raise DataError(
            f"{path}: column {name}: rows that are kept must have equally many entries, others none"
        )
    values: npt.NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(int(kept.sum()), k)
