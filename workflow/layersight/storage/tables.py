"""Parquet tables with a schema that is checked on write and on read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from layersight.errors import DataError
from layersight.storage.atomic import atomic_file

if TYPE_CHECKING:
    import pandas as pd


def write_table(
    path: Path, rows: pd.DataFrame | pa.Table | Sequence[Mapping[str, Any]], schema: pa.Schema
) -> None:
    """Write rows as one Parquet file, atomically.

    Args:
        path: where the file appears.
        rows: a frame, an arrow table, or a list of mappings; columns exactly those of `schema`.
        schema: names and types of the columns; a missing or additional column is an error, and so
            is a null in a column that may have none.

    Raises:
        DataError: the rows do not fit the schema.
    """
    if isinstance(rows, pa.Table):
        names = rows.column_names
    elif isinstance(rows, Sequence):
        names = list(dict.fromkeys(name for row in rows for name in row)) if rows else schema.names
    else:
        names = [str(name) for name in rows.columns]
    if set(names) != set(schema.names):
        raise DataError(
            f"{path}: columns {sorted(set(names) ^ set(schema.names))} are missing or unexpected; "
            f"the table has the columns {schema.names}"
        )
    try:
        if isinstance(rows, pa.Table):
            table = rows.select(schema.names)
            _check_nulls(path, table, schema)
            table = table.cast(schema)
        elif isinstance(rows, Sequence):
            table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
        else:
            table = pa.Table.from_pandas(rows, schema=schema, preserve_index=False, safe=True)
    except (pa.ArrowException, OverflowError) as error:
        raise DataError(f"{path}: a value does not fit its column: {error}") from None
    _check_nulls(path, table, schema)
    table = table.replace_schema_metadata(None)
    with atomic_file(Path(path)) as beside:
        pq.write_table(table, beside, compression="zstd")


def read_table(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """Read one Parquet file.

    Args:
        path: the file.
        schema: names and types of all columns, in whatever order they are stored; None takes what
            there is.

    Raises:
        DataError: missing, truncated or not Parquet; or, of what `schema` names, a column missing,
            unexpected or of another type, or a null where none may be.
    """
    table = _read(Path(path))
    if schema is None:
        return table
    unexpected = [name for name in table.column_names if name not in schema.names]
    if unexpected:
        raise DataError(
            f"{path}: has the unexpected columns {', '.join(unexpected)}; "
            f"expected {', '.join(schema.names)}"
        )
    return fitted(Path(path), table, schema)


def read_columns(path: Path, schema: pa.Schema) -> pa.Table:
    """Read some columns of a Parquet file: those that `schema` names; it may have others.

    Raises:
        DataError: as `read_table`, but other columns are no error.
    """
    return fitted(Path(path), _read(Path(path)), schema)


def read_frame(path: Path) -> pd.DataFrame:
    """Read one Parquet file as a pandas frame; see `read_table` for the errors."""
    return read_table(path).to_pandas()


def _read(path: Path) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path}: no such table; run the rule that makes it")
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a readable Parquet file ({error}); delete it and rerun"
        ) from None


def fitted(path: Path, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the columns that a schema names, in its order and types.

    Args:
        path: where the table comes from, for messages.
        table: the table; it may have more columns.
        schema: names and types.

    Raises:
        DataError: a column is missing, there twice or of another type, or has a null where none may
            be.
    """
    missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path}: the columns {', '.join(missing)} are missing; "
            f"has {', '.join(table.column_names) or 'none'}, expected {', '.join(schema.names)}"
        )
    twice = [name for name in schema.names if table.column_names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: has the column {twice[0]} twice")
    for field in schema:
        found = table.schema.field(field.name).type
        if not _alike(found, field.type):
            raise DataError(f"{path}: column {field.name}: is {found}, expected {field.type}")
    table = table.select(schema.names)
    _check_nulls(path, table, schema)
    try:
        return table.cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path}: a value does not fit its column: {error}") from None


def _check_nulls(path: Path, table: pa.Table, schema: pa.Schema) -> None:
    for field in schema:
        column = table.column(field.name)
        if field.nullable or not column.null_count:
            continue
        row = pc.index(column.is_null(), True).as_py()
        name = table.column("item_id")[row].as_py() if "item_id" in table.column_names else None
        raise DataError(
            f"{path}: column {field.name}: row {row}{f' ({name})' if name else ''} has no value "
            f"({column.null_count} rows have none); expected {field.type} in every row"
        )


def _alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Say whether two types hold the same kind of value, in whatever width."""
    types = pa.types
    if types.is_null(found):  # a column of nothing but nulls
        return True
    if types.is_dictionary(found):
        return _alike(found.value_type, wanted)
    if _is_list(found) and _is_list(wanted):
        return _alike(found.value_type, wanted.value_type)
    if types.is_struct(found) and types.is_struct(wanted):
        ours = {field.name: field.type for field in found}
        return set(ours) == {field.name for field in wanted} and all(
            _alike(ours[field.name], field.type) for field in wanted
        )
    for kind in (_is_text, _is_bytes, types.is_integer, types.is_floating):
        if kind(wanted):
            return bool(kind(found))
    return bool(found.equals(wanted))


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
