"""Tables that are read row by row: the same rows and messages as whole ones, in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import IMAGE_TOKENS, ROOT

from layersight.data import streaming
from layersight.data.rows import tokenized_rows
from layersight.data.schemas import INSTRUCT, PROBE
from layersight.data.streaming import ConversationTable
from layersight.errors import DataError


def training_row(index: int, **changes: Any) -> dict[str, Any]:
    image = ["a", None, "b"][index % 3]
    asked = ("" if image is None else "<image>\n") + "Which kind of thing is this? " * (index % 5)
    turns = [{"from": "human", "value": asked + "?"}, {"from": "gpt", "value": f"star {index}"}]
    row: dict[str, Any] = {"item_id": f"i/{index}", "task": "naming", "concept": "star"}
    return row | {"image_id": image, "conversations": turns, "answer_class": None} | changes


def stored(path: Path, rows: list[dict[str, Any]], group: int = 4, schema=INSTRUCT) -> Path:
    path.parent.mkdir(exist_ok=True)
    loose = pa.schema([field.with_nullable(True) for field in schema])
    pq.write_table(pa.Table.from_pylist(rows, schema=loose), path, row_group_size=group)
    return path


@pytest.fixture
def opened(smoke, tokenizer):
    def table(path: Path, **options: Any) -> ConversationTable:
        return ConversationTable(smoke, path, tokenizer, IMAGE_TOKENS, **options)

    return table


ROWS = [training_row(index) for index in range(23)]


def test_rows_are_those_of_the_table_read_at_once(smoke, tokenizer, opened, tmp_path):
    path = stored(tmp_path / "t.parquet", ROWS)
    tokens, images = tokenized_rows(smoke, path, tokenizer, IMAGE_TOKENS)
    table = opened(path, cache_bytes=1)
    order = np.random.default_rng(0).permutation(len(ROWS)).tolist()
    assert len(table) == len(table.images) == len(ROWS)
    assert [table.row(row) for row in order] == [(tokens[row], images[row]) for row in order]
    assert [table[row] for row in order] == [tokens[row] for row in order]
    assert [table.images[row] for row in order] == [images[row] for row in order]
    assert list(table.images) == images
    lengths = table.lengths()
    assert lengths.dtype == np.int32
    assert lengths.tolist() == [len(row.input_ids) for row in tokens]
    assert table.pictured().tolist() == [image is not None for image in images]
    for row in (-1, len(ROWS)):
        with pytest.raises(IndexError):
            table.row(row)


def test_a_folder_of_parts_is_one_table_in_the_order_of_their_names(opened, tmp_path):
    whole = opened(stored(tmp_path / "t.parquet", ROWS))
    stored(tmp_path / "parts/part-1.parquet", ROWS[9:])
    stored(tmp_path / "parts/part-0.parquet", ROWS[:9])
    stored(tmp_path / "parts/.part-2.parquet.part-77", ROWS)
    table = opened(tmp_path / "parts")
    assert [table.row(i) for i in range(len(ROWS))] == [whole.row(i) for i in range(len(ROWS))]
    assert table.lengths().tolist() == whole.lengths().tolist()


def test_the_cache_holds_what_it_may_and_at_least_the_group_in_use(opened, tmp_path):
    table = opened(stored(tmp_path / "t.parquet", ROWS), cache_bytes=2500)
    held = []
    for row in range(len(table)):
        table.row(row)
        held.append(sum(group.nbytes for group in table._cache.values()))
        assert held[-1] == table._cached
    assert max(held) <= 2500 and max(held) > 1000
    small = opened(tmp_path / "t.parquet", cache_bytes=1)
    assert small.row(20) == small.row(20) and len(small._cache) == 1


def test_lengths_are_kept_in_the_work_folder_until_the_table_changes(opened, tmp_path, monkeypatch):
    path = stored(tmp_path / "t.parquet", ROWS)
    lengths = opened(path, work=tmp_path / "work").lengths()
    with monkeypatch.context() as patch:
        patch.setattr(ConversationTable, "_scan", lambda self: pytest.fail("read again"))
        again = opened(path, work=tmp_path / "work")
        assert again.lengths().tolist() == lengths.tolist()
        assert isinstance(again._signed, np.memmap)
    (kept,) = (tmp_path / "work").iterdir()
    kept.write_bytes(kept.read_bytes()[:-1])
    assert opened(path, work=tmp_path / "work").lengths().tolist() == lengths.tolist()
    stored(path, ROWS[:7])
    assert len(opened(path, work=tmp_path / "work").lengths()) == 7
    longer = opened(path, work=tmp_path / "work", template="v1").lengths()
    assert longer.tolist() != lengths[:7].tolist()


def test_large_row_groups_are_copied_into_small_ones(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "_LARGE_GROUP", 100)
    monkeypatch.setattr(streaming, "GROUP_ROWS", 5)
    path = stored(tmp_path / "t.parquet", ROWS, group=100)
    plain = opened(path)
    table = opened(path, work=tmp_path / "work", cache_bytes=1)
    assert plain._files[0].num_row_groups == 1 and table._files[0].num_row_groups == 5
    assert [table.row(i) for i in range(23)] == [plain.row(i) for i in range(23)]
    assert table.lengths().tolist() == plain.lengths().tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conversations": []}, "row i/17: the conversation has no turns"),
        ({"image_id": None}, "row i/17: <image> stands in the conversation, but image_id is empty"),
        ({"conversations": [{"from": "human", "value": "a"}]}, "row i/17: the conversation has no"),
        ({"item_id": "i/2"}, "row i/2: occurs twice; every item needs a name of its own"),
        ({"conversations": None}, "column conversations: row 1 (i/17) has no value"),
        ({"task": None}, "column task: row 1 (i/17) has no value"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(opened, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(streaming, "GROUP_ROWS", 8)
    bad = training_row(17) | {"image_id": "a", "conversations": training_row(18)["conversations"]}
    path = stored(tmp_path / "t.parquet", [*ROWS[:17], bad | changes, *ROWS[18:]])
    with pytest.raises(DataError) as error:
        opened(path).lengths()
    assert str(error.value).startswith(str(path)) and message in str(error.value)


def test_probes_must_leave_the_answer_to_the_model(opened, tmp_path):
    row = {"item_id": "p", "concept": "c", "kind": "k", "subgroup": "s", "image_id": None}
    path = stored(
        tmp_path / "t.parquet", [row | {"conversations": ROWS[1]["conversations"]}], schema=PROBE
    )
    with pytest.raises(DataError, match="row p: the conversation is answered already"):
        opened(path).row(0)


def test_a_table_that_is_none_is_refused(opened, tmp_path):
    with pytest.raises(DataError, match="no such table"):
        opened(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="has no rows"):
        opened(stored(tmp_path / "empty.parquet", []))
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"without \*.parquet files"):
        opened(tmp_path / "folder")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        opened(tmp_path / "text.parquet")
    pq.write_table(pa.table({"item_id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="columns image_id, conversations are missing"):
        opened(tmp_path / "other.parquet")


def test_a_table_that_is_cut_off_inside_is_named(opened, tmp_path):
    path = stored(tmp_path / "t.parquet", ROWS)
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    for read in (lambda: opened(path).row(0), lambda: opened(path).lengths()):
        with pytest.raises(DataError, match="not a readable Parquet file"):
            read()


@pytest.mark.parametrize(
    ("group", "sizes", "most"),
    # The larger table has 13 MB more to read, and 58 MB in one row group in the second case.
    [(64, (200, 2000), 6), pytest.param(10**6, (1000, 9000), 20, marks=pytest.mark.slow)],
)
def test_memory_does_not_grow_with_the_number_of_rows(group, sizes, most):
    grown = [
        json.loads(
            subprocess.run(
                [
                    sys.executable, ROOT / "benchmarks/streaming_memory.py", "--measure", str(rows),
                    "--group", str(group), "--cache-mb", "1",
                ],
                check=True, capture_output=True, text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")},
            ).stdout
        )["grown_mb"]
        for rows in sizes
    ]  # fmt: skip
    assert grown[1] - grown[0] < most


def test_longer_conversations_are_cut_off_where_the_stage_says_so(opened, tmp_path):
    path = stored(tmp_path / "t.parquet", ROWS)
    whole = opened(path)
    longest = int(whole.lengths().max()) - 2
    cut = opened(path, longest=longest)
    assert cut.lengths().max() == longest < whole.lengths().max()
    for row in range(len(ROWS)):
        assert cut[row].input_ids == whole[row].input_ids[:longest]
        assert cut[row].roles == whole[row].roles[:longest]


def test_a_picture_is_not_cut_off(opened, tmp_path):
    path = stored(tmp_path / "t.parquet", ROWS)
    with pytest.raises(DataError, match=r"its picture would be cut off behind max_tokens, 2"):
        opened(path, longest=2).lengths()
