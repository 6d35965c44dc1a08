"""Files of activations: vectors read as plain bytes against Arrow, older files, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layersight.activations import pages, store
from layersight.activations.schemas import schema, write_streams
from layersight.activations.store import ActivationStore, ActivationWriter
from layersight.errors import DataError

STREAMS = ("last", "text_mean")


def vectors_of(rows, width, dtype="float32", layers=2):
    numbers = np.random.default_rng(rows).normal(size=(layers, rows, width))
    return numbers.astype(dtype)


def written(folder, rows, width, *, dtype="float32", part=10**6, batch=7):
    given = {stream: vectors_of(rows, width, dtype) + index for index, stream in enumerate(STREAMS)}
    writer = ActivationWriter(folder, layers=2, width=width, dtype=dtype, rows_per_part=part)
    for start in range(0, rows, batch):
        stop = min(rows, start + batch)
        for stream, numbers in given.items():
            ids = [f"item {index}" for index in range(start, stop)]
            writer.add(ids, stream, [None] * len(ids), numbers[:, start:stop])
    writer.flush()
    return given


@pytest.fixture
def plainly(monkeypatch):
    """Counts the row groups whose vectors were read as plain bytes, and those that were not."""
    counts = {True: 0, False: 0}

    def counted(*arguments):
        found = pages.read_values(*arguments)
        counts[found] += 1
        return found

    monkeypatch.setattr(store, "read_values", counted)
    return counts


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 2), (63, 576), (700, 33), (2000, 5)])
def test_vectors_are_the_same_bits_read_plainly_and_by_arrow(tmp_path, plainly, rows, width, dtype):
    given = written(tmp_path / "a", rows, width, dtype=dtype)
    for stream in STREAMS:
        for layer in (0, 1):
            ids, found = ActivationStore(tmp_path / "a").read(layer, stream)
            assert found.dtype == np.float32 and found.flags.writeable
            assert np.array_equal(found, given[stream][layer].astype(np.float32))
            assert ids.tolist() == [f"item {index}" for index in range(rows)]
    assert plainly == {True: 4, False: 0}
    part = tmp_path / "a/layer=01/part-0000.parquet"
    table = pq.read_table(part).to_pandas()
    for stream in STREAMS:
        by_arrow = np.stack(table[table["stream"] == stream]["vector"])
        assert np.array_equal(by_arrow, given[stream][1])


def test_many_parts_are_read_in_order(tmp_path, plainly):
    given = written(tmp_path / "a", 100, 8, part=30)
    assert len(list((tmp_path / "a/layer=00").iterdir())) > 3
    for stream in STREAMS:
        ids, found = ActivationStore(tmp_path / "a").read(1, stream)
        assert ids.tolist() == [f"item {index}" for index in range(100)]
        assert np.array_equal(found, given[stream][1])
    assert not plainly[False]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"compression": "none", "data_page_size": 2048},
        {"compression": "zstd"},
        {"compression": "none", "use_dictionary": True},
        {"compression": "none", "data_page_version": "2.0"},
        {"compression": "none", "row_group_size": 11},
        {"compression": "none", "use_byte_stream_split": ["vector.list.element"],
         "use_dictionary": False},
    ],
)  # fmt: skip
@pytest.mark.parametrize("nullable", [True, False])
def test_files_of_any_other_layout_are_read_as_well(tmp_path, how, nullable):
    # Streams take turns in one row group, as files once were written.
    numbers = vectors_of(60, 16)[0]
    form = pa.list_(pa.field("element", pa.float32(), nullable=nullable), 16)
    fields = [("item_id", pa.string()), ("stream", pa.string()), ("token", pa.int32())]
    columns = [
        pa.array([f"i{index // 2}" for index in range(60)]),
        pa.array(["last", "text_mean"] * 30),
        pa.nulls(60, pa.int32()),
        pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), type=form),
    ]
    (tmp_path / "a/layer=00").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_arrays(
            columns,
            schema=pa.schema(
                [*(pa.field(*each) for each in fields), pa.field("vector", form, nullable=nullable)]
            ),
        ),
        tmp_path / "a/layer=00/part-0000.parquet",
        **how,
    )
    for index, stream in enumerate(STREAMS):
        ids, found = ActivationStore(tmp_path / "a").read(0, stream)
        assert ids.tolist() == [f"i{number}" for number in range(30)]
        assert np.array_equal(found, numbers[index::2])


def test_a_page_that_is_not_the_whole_column_is_left_to_arrow(tmp_path, plainly):
    form = schema(4, "float32")
    numbers = vectors_of(500, 4)[0]
    path = tmp_path / "a/layer=00/part-0000.parquet"
    path.parent.mkdir(parents=True)
    ids = {"item_id": [f"i{index}" for index in range(500)], "token": [None] * 500}
    write_streams(path, form, [("last", ids, numbers)])
    one = pq.read_table(path)
    pq.write_table(one, path, compression="none", use_dictionary=False, max_rows_per_page=100)
    assert np.array_equal(ActivationStore(tmp_path / "a").read(0, "last")[1], numbers)
    assert plainly == {True: 0, False: 1}


@pytest.mark.parametrize("names", [["é", "item", "", "日本"], ["", ""], ["a\0b", "c"]])
def test_ids_are_any_text(tmp_path, names):
    writer = ActivationWriter(tmp_path / "a", layers=1, width=2, dtype="float32", rows_per_part=9)
    writer.add(names, "last", [None] * len(names), np.zeros((1, len(names), 2), np.float32))
    writer.flush()
    assert ActivationStore(tmp_path / "a").read(0, "last")[0].tolist() == names


def test_files_are_at_most_five_per_cent_larger_than_the_numbers(tmp_path):
    written(tmp_path / "a", 128, 576)
    numbers = 2 * 2 * 128 * 576 * 4
    size = sum(path.stat().st_size for path in (tmp_path / "a").rglob("*.parquet"))
    assert numbers < size < 1.02 * numbers


def test_tokens_and_sites_have_files_of_their_own_and_layer_0_has_the_residual_alone(tmp_path):
    writer = ActivationWriter(tmp_path / "a", layers=3, width=4, dtype="float32", rows_per_part=20)
    every, heads = vectors_of(6, 4, layers=3), vectors_of(6, 10, layers=2)
    items, positions = ["x", "x", "y", "y", "y", "y"], [0, 1, 0, 1, 2, 3]
    roles = ["template", "text", "template", "image", "image", "text"]
    for _ in range(3):
        writer.add(["x", "y"], "last", [1, 3], every[:, :2])
        writer.add(["x", "y"], "last.attention", [1, 3], every[1:, 2:4])
        writer.add(["x", "y"], "last.heads", [1, 3], heads[:, :2], heads=True)
        writer.add(items, "all", positions, every, roles=roles)
        writer.add(items, "all.heads", positions, heads, roles=roles, heads=True)
    writer.flush()
    folder = tmp_path / "a"
    names = {path.name for path in (folder / "layer=01").iterdir()}
    expected = {f"{file}-000{part}.parquet" for part in (0, 1, 2)
                for file in ("part", "heads", "tokens", "tokens-heads")}  # fmt: skip
    assert names <= expected and len({name.rsplit("-", 1)[0] for name in names}) == 4
    assert {path.name.rsplit("-", 1)[0] for path in (folder / "layer=00").iterdir()} == {
        "part",
        "tokens",
    }
    found = ActivationStore(folder)
    assert found.streams() == ["last"]
    assert found.site_streams() == ["last.attention", "last.heads"]
    assert np.array_equal(found.read(2, "last.attention")[1], np.tile(every[2, 2:4], (3, 1)))
    assert np.array_equal(found.read(1, "last.heads")[1], np.tile(heads[0, :2], (3, 1)))
    with pytest.raises(DataError, match=r"no stream 'last\.heads' in layer 0; stored: \['last'\]"):
        found.read(0, "last.heads")
    tokens = found.read_tokens(2)
    assert tokens.item_ids.tolist() == items * 3
    assert tokens.positions.tolist() == positions * 3
    assert tokens.roles.tolist() == roles * 3
    assert np.array_equal(tokens.vectors, np.tile(every[2], (3, 1)))
    one = found.read_tokens(1, item="y", stream="all.heads")
    assert set(one.item_ids) == {"y"} and one.roles.tolist() == roles[2:] * 3
    assert np.array_equal(one.vectors, np.tile(heads[0, 2:], (3, 1)))
    with pytest.raises(DataError, match="no item 'z' in the stream 'all'"):
        found.read_tokens(1, item="z")


def test_memory_of_a_part_is_one_layer_of_it_however_many_rows_it_has(tmp_path):
    # 12 layers of 64 numbers: holding all layers of 4,000 rows would take 12 MB.
    def peak(rows):
        writer = ActivationWriter(
            tmp_path / str(rows), layers=12, width=64, dtype="float32", rows_per_part=10**6
        )
        batch = vectors_of(10, 64, layers=12)
        tracemalloc.start()
        for start in range(0, rows, 10):
            ids = [f"i{index}" for index in range(start, start + 10)]
            writer.add(ids, "last", [None] * 10, batch)
        writer.flush()
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found

    small, large = peak(400), peak(4000)
    assert large - small < 2 * (4000 - 400) * 64 * 4
