"""Finished pieces of unfinished work: what a killed job need not do again.

A piece is one small table in the job's folder for unfinished work. The caller hands the same folder
over only for the same settings, code and inputs, so a piece that is readable is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from layersight.errors import DataError
from layersight.storage.tables import read_table, write_table


def keep_rows(
    work: Path | None, name: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema
) -> None:
    """Keep the rows of one piece, atomically.

    Args:
        work: folder for unfinished work, made where needed; None keeps nothing.
        name: of the piece; may hold slashes.
        rows: with exactly the columns of `schema`.
        schema: names and types of the columns.
    """
    if work is not None:
        write_table(_path(work, name), rows, schema)


def kept_rows(work: Path | None, name: str, schema: pa.Schema) -> list[dict[str, Any]] | None:
    """Return the rows of a piece; None if it is not there, unreadable or of another schema."""
    if work is None or not _path(work, name).is_file():
        return None
    try:
        rows: list[dict[str, Any]] = read_table(_path(work, name), schema).to_pylist()
    except (DataError, pa.ArrowException, OSError):
        return None
    return rows


def _path(work: Path, name: str) -> Path:
    return Path(work) / f"{name}.parquet"
