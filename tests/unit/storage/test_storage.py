"""Outputs appear whole or not at all; tables keep their schema."""

from __future__ import annotations

import os

import pandas as pd
import pyarrow as pa
import pytest

from layersight.errors import DataError
from layersight.storage.atomic import atomic_file, atomic_folder
from layersight.storage.tables import read_table, write_table

SCHEMA = pa.schema([("name", pa.string()), ("count", pa.int32())])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_folder_leaves_the_old_folder_and_nothing_else(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "x").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(folder) as beside:
        (beside / "x").write_text("half")
        raise RuntimeError
    assert (folder / "x").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    with atomic_folder(folder) as beside:
        (beside / "y").write_text("new")
    assert [p.name for p in folder.iterdir()] == ["y"]
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


@pytest.mark.parametrize(
    "rows",
    [
        [{"name": "a"}],
        [{"name": "a", "count": 1, "more": 2}],
        [{"name": "a", "count": "many"}],
        pd.DataFrame({"name": ["a"], "count": [1.5]}),
    ],
)
def test_rows_that_do_not_fit_the_schema_are_refused(tmp_path, rows):
    with pytest.raises(DataError, match=r"t\.parquet"):
        write_table(tmp_path / "t.parquet", rows, SCHEMA)
    assert list(tmp_path.iterdir()) == []


def test_tables_come_back_and_damage_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, [{"name": "a", "count": 1}], SCHEMA)
    assert read_table(path, SCHEMA).to_pylist() == [{"name": "a", "count": 1}]
    with pytest.raises(DataError, match="expected"):
        read_table(path, pa.schema([("other", pa.string())]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_table(path)
    with pytest.raises(DataError, match="no such table"):
        read_table(tmp_path / "none.parquet")


def test_a_file_is_replaced_and_never_written_in_place(tmp_path):
    """What shares its bytes by a hard link, as kept results do, stays what it was."""
    path, kept = tmp_path / "table", tmp_path / "kept"
    path.write_text("old")
    os.link(path, kept)
    with atomic_file(path) as beside:
        beside.write_text("new")
    assert (path.read_text(), kept.read_text()) == ("new", "old")
