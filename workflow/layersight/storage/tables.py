"""Parquet tables with a schema that is checked on write and on read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from layersight.errors import DataError
from layersight.storage.atomic import atomic_file


def write_table(
    path: Path, rows: pd.DataFrame | pa.Table | Sequence[Mapping[str, Any]], schema: pa.Schema
) -> None:
    """Write rows as one Parquet file, atomically.

    Args:
        path: where the file appears.
        rows: a frame, an arrow table, or a list of mappings; columns exactly those of `schema`.
        schema: names and types of the columns; a missing or additional column is an error.

    Raises:
        DataError: the rows do not fit the schema.
    """
    if isinstance(rows, pa.Table):
        names = rows.column_names
    elif isinstance(rows, pd.DataFrame):
        names = [str(name) for name in rows.columns]
    else:
        names = list(rows[0]) if rows else schema.names
    if set(names) != set(schema.names):
        raise DataError(
            f"{path}: columns {sorted(set(names) ^ set(schema.names))} are missing or unexpected; "
            f"the table has the columns {schema.names}"
        )
    try:
        if isinstance(rows, pa.Table):
            table = rows.select(schema.names).cast(schema)
        elif isinstance(rows, pd.DataFrame):
            table = pa.Table.from_pandas(rows, schema=schema, preserve_index=False, safe=True)
        else:
            table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}: a value does not fit its column: {error}") from None
    table = table.replace_schema_metadata(None)
    with atomic_file(Path(path)) as beside:
        pq.write_table(table, beside, compression="zstd")


def read_table(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """Read one Parquet file.

    Raises:
        DataError: missing, truncated or not Parquet, or columns other than `schema` names.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such table; run the rule that makes it")
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path}: not a readable Parquet file ({error}); delete it and rerun"
        ) from None
    if schema is not None:
        if table.column_names != schema.names:
            raise DataError(
                f"{path}: has the columns {table.column_names}, expected {schema.names}"
            )
        table = table.cast(schema)
    return table


def read_frame(path: Path) -> pd.DataFrame:
    """Read one Parquet file as a pandas frame; see `read_table` for the errors."""
    return read_table(path).to_pandas()
