import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import layersight
from layersight.errors import DataError
from layersight.geometry.graph import GRAPH, neighbour_graph, read_graph, write_graph
from layersight.geometry.graph_pairs import (
    matched_neighbours,
    paired_neighbour_tables,
    restricted,
)
from layersight.geometry.graph_store import SUMMARY, GraphStore, graph_path, write_graphs
from layersight.geometry.neighbours import NeighboursError, first_copies, nearest_neighbours
from layersight.geometry.overlap import neighbourhood_overlap
from layersight.storage.tables import read_table, write_table

N = 60
IDS = np.array([f"item-{i:02d}" for i in range(N)])


def with_copies_and_zeros(seed=0):
    x = np.random.default_rng(seed).standard_normal((N, 6)).astype(np.float32)
    x[10] = x[3]
    x[40] = x[3]
    x[20] = x[55] = 0
    return x


def graph_of(x, k=8, **options):
    return neighbour_graph(IDS[: len(x)], x, k, **options)


def assert_same_graph(a, b):
    for name in ("item_ids", "copy_of", "zero", "rows", "indices", "distances"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert a.metric == b.metric


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_copies_take_no_part_and_zero_vectors_only_where_they_have_a_direction(metric):
    x = with_copies_and_zeros()
    graph = graph_of(x, metric=metric)
    left_out = {10, 40, 55} | ({20} if metric == "cosine" else set())
    assert set(range(N)) - set(graph.rows.tolist()) == left_out
    assert (graph.copies, graph.zeros, graph.coincident) == (3, 2, 0)
    expected = nearest_neighbours(x[graph.rows], 8, metric=metric)
    np.testing.assert_array_equal(graph.indices, expected.indices)
    np.testing.assert_array_equal(graph.distances, expected.distances)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_graph_is_read_back_as_it_was_written(tmp_path, metric):
    graph = graph_of(with_copies_and_zeros(), metric=metric)
    write_graph(tmp_path / "g.parquet", graph)
    assert_same_graph(read_graph(tmp_path / "g.parquet", metric), graph)


def test_the_file_says_by_row_who_is_near_and_who_is_left_out_and_why(tmp_path):
    x = with_copies_and_zeros()
    write_graph(tmp_path / "g.parquet", graph_of(x, metric="cosine"))
    frame = pd.read_parquet(tmp_path / "g.parquet").set_index("item_id")
    assert frame.loc["item-10", "status"] == "copy"
    assert frame.loc["item-10", "copy_of"] == 3
    assert frame.loc["item-20", "status"] == frame.loc["item-55", "status"] == "zero"
    assert len(frame.loc["item-10", "neighbours"]) == 0
    unit = x / np.where(x.any(axis=1), np.linalg.norm(x, axis=1), 1)[:, np.newaxis]
    row = frame.loc["item-03"]
    np.testing.assert_allclose(1 - unit[row.neighbours] @ unit[3], row.distances, atol=1e-6)
    assert not {3, 10, 40, 20, 55} & set(row.neighbours)


def test_where_all_items_share_one_vector_the_graph_has_one_point(tmp_path):
    graph = graph_of(np.ones((N, 4), dtype=np.float32))
    assert (len(graph.rows), graph.indices.shape, graph.copies) == (1, (1, 0), N - 1)
    write_graph(tmp_path / "g.parquet", graph)
    assert_same_graph(read_graph(tmp_path / "g.parquet"), graph)


def test_a_graph_of_nothing_but_zero_vectors_is_empty_under_cosine(tmp_path):
    graph = graph_of(np.zeros((N, 4), dtype=np.float32), metric="cosine")
    assert graph.indices.shape == (0, 0)
    write_graph(tmp_path / "g.parquet", graph)
    assert_same_graph(read_graph(tmp_path / "g.parquet"), graph)


def test_few_distinct_vectors_have_fewer_neighbours():
    x = np.repeat(np.arange(5.0)[:, np.newaxis], 12, axis=0)
    graph = graph_of(x)
    assert graph.indices.shape == (5, 4)
    np.testing.assert_array_equal(graph.indices[0], [1, 2, 3, 4])


def test_parallel_vectors_are_counted_under_cosine():
    x = with_copies_and_zeros()
    x[7] = 2 * x[8]
    assert graph_of(x).coincident == 0
    assert graph_of(x, metric="cosine").coincident == 2


def test_chords_grow_with_the_displacement():
    angles = np.array([0.0, 0.01, 0.03])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lengths = graph_of(x, 2, metric="cosine").lengths
    np.testing.assert_allclose(lengths[0], 2 * np.sin(angles[1:] / 2), rtol=1e-12)


def broken(table, **columns):
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(values, table.schema.field(name).type))
    return table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"row": list(range(1, N + 1))}, "column row"),
        (lambda t: {"metric": ["cosine"] * N}, "cosine distance; euclidean is asked for"),
        (lambda t: {"status": ["kept"] * N}, "equally many"),
        (lambda t: {"neighbours": [[N] * len(x) for x in t.column("neighbours").to_pylist()]},
         "takes no part"),
        (lambda t: {"distances": [x[:-1] for x in t.column("distances").to_pylist()]}, "differ"),
    ],
)  # fmt: skip
def test_a_damaged_graph_is_refused_with_a_reason(tmp_path, change, message):
    path = tmp_path / "g.parquet"
    write_graph(path, graph_of(with_copies_and_zeros()))
    table = read_table(path, GRAPH)
    write_table(path, broken(table, **change(table)), GRAPH)
    with pytest.raises(DataError, match=message):
        read_graph(path, "euclidean")


def test_ids_that_do_not_match_are_refused():
    with pytest.raises(NeighboursError, match="59 item ids"):
        neighbour_graph(IDS[:-1], with_copies_and_zeros(), 4)
    with pytest.raises(NeighboursError, match="k is 0"):
        graph_of(with_copies_and_zeros(), 0)


def test_matched_graphs_equal_a_search_among_the_items_of_both():
    x, y = with_copies_and_zeros(1), with_copies_and_zeros(2)[:, :4].copy()
    y[[30, 31, 32]] = y[2]
    order = np.arange(N)[::-1]
    a = graph_of(x, 30)
    b = neighbour_graph(IDS[order], y[order], 30, metric="cosine")
    both = matched_neighbours(a, b)
    # Of equal vectors the first in the order of a takes part, whichever does in b.
    kept = np.flatnonzero(first_copies(x) & first_copies(y) & y.any(axis=1))
    assert set(IDS[kept]) - set(b.kept_ids)
    np.testing.assert_array_equal(both.item_ids, IDS[kept])
    k = both.width
    assert 20 <= k < 30
    in_x = nearest_neighbours(x[kept], k).indices
    in_y = nearest_neighbours(y[kept], k, metric="cosine").indices
    np.testing.assert_array_equal(both.in_a[:, :k], in_x)
    np.testing.assert_array_equal(both.in_b[:, :k], in_y)
    assert neighbourhood_overlap(both.in_a, both.in_b, 10).mean() > 0
    for found, expected in zip(
        paired_neighbour_tables(a, b), (both.item_ids, both.in_a, both.in_b), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_restricted_to_all_points_a_graph_is_itself():
    indices = graph_of(with_copies_and_zeros()).indices
    np.testing.assert_array_equal(restricted(indices, np.arange(len(indices))), indices)


def test_graphs_of_different_items_are_refused():
    a = graph_of(with_copies_and_zeros())
    other = np.array([*IDS[:-1], "stranger"])
    with pytest.raises(NeighboursError, match="1 only on the first, 1 only on the second"):
        matched_neighbours(a, neighbour_graph(other, with_copies_and_zeros(), 8))
    twice = np.array([*IDS[:-1], IDS[0]])
    with pytest.raises(NeighboursError, match="occurs twice"):
        matched_neighbours(a, neighbour_graph(twice, with_copies_and_zeros(), 8))


def layered(layer, stream):
    if layer == 0 and stream == "last":
        return IDS, np.ones((N, 6), dtype=np.float32)
    return IDS, with_copies_and_zeros(layer + 10 * len(stream))


def write_all(out, read=layered, **options):
    common = {"subject": "base", "probe": "p", "streams": ["last", "image"], "layers": [0, 3]}
    write_graphs(read, **common, out=out, k=8, **options)


def test_every_stream_and_layer_has_a_graph_and_a_row_in_the_summary(tmp_path):
    write_all(tmp_path / "g")
    store = GraphStore(tmp_path / "g", "euclidean")
    assert (store.layers, store.streams()) == ([0, 3], ["image", "last"])
    assert_same_graph(store.read(3, "image"), graph_of(layered(3, "image")[1]))
    summary = read_table(tmp_path / "g/summary.parquet", SUMMARY).to_pandas()
    first = summary.query("layer == 0 and stream == 'last'").iloc[0]
    assert first[["items", "distinct", "copies", "k"]].tolist() == [N, 1, N - 1, 0]
    rest = summary.drop(index=first.name)
    assert (rest[["by_float32", "by_float64", "by_differences"]].sum(axis=1) == N - 3).all()
    assert not list(tmp_path.glob(".g*"))
    with pytest.raises(DataError, match="by euclidean distance; cosine"):
        GraphStore(tmp_path / "g", "cosine").read(3, "last")
    with pytest.raises(DataError, match="run the rule"):
        GraphStore(tmp_path / "nowhere")


def test_a_stopped_search_goes_on_with_the_same_bytes(tmp_path):
    write_all(tmp_path / "whole")
    calls = []

    def fails_once(layer, stream):
        calls.append((layer, stream))
        if len(calls) == 3:
            raise DataError("gone")
        return layered(layer, stream)

    with pytest.raises(DataError, match="gone"):
        write_all(tmp_path / "g", fails_once, work=tmp_path / "work")
    assert not (tmp_path / "g").exists()
    write_all(tmp_path / "g", fails_once, work=tmp_path / "work")
    assert calls == [(0, "last"), (0, "image"), (3, "last"), (3, "last"), (3, "image")]
    files = sorted(p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.par*"))
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "g" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_vectors_that_are_not_finite_are_reported_with_their_place(tmp_path):
    x = with_copies_and_zeros()
    x[5] = np.nan
    with pytest.raises(DataError, match="base on p: stream last, layer 0: 1 of 60 .*NaN.*row 5"):
        write_all(tmp_path / "g", lambda layer, stream: (IDS, x))


def test_metrics_load_no_torch_and_search_for_nothing(tmp_path):
    write_all(tmp_path / "g")
    script = (
        "import sys; from layersight.geometry.graph_store import GraphStore\n"
        "import layersight.geometry.graph_tables, layersight.geometry.overlap_tables\n"
        f"GraphStore({str(tmp_path / 'g')!r}).read(3, 'last')\n"
        "assert 'torch' not in sys.modules"
    )
    library = str(Path(layersight.__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONPATH": library}
    )


def test_the_graph_takes_twelve_bytes_a_neighbour_and_little_more(tmp_path):
    x = np.random.default_rng(0).standard_normal((1000, 5)).astype(np.float32)
    ids = np.array([f"{i:06d}" for i in range(1000)])
    path = graph_path(tmp_path, 4, "last")
    write_graph(path, neighbour_graph(ids, x, 64))
    assert path == tmp_path / "layer=04/last.parquet"
    assert path.stat().st_size < 1.05 * 12 * 64 * 1000
    assert pc.all(pc.equal(pq.read_table(path)["status"], "kept")).as_py()
