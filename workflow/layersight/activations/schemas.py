"""Files of stored activations: their names, columns, and how they lie in Parquet.

| file | rows |
|---|---|
| `part-NNNN.parquet` | one vector an input and stream, of the residual stream's width |
| `heads-NNNN.parquet` | the same of the heads' outputs, which may have another width |
| `tokens-NNNN.parquet`, `tokens-heads-NNNN.parquet` | every token of an input (the stream `all`) |
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

PART, HEADS, TOKENS, TOKENS_HEADS = "part", "heads", "tokens", "tokens-heads"
POOLED_FILES, TOKEN_FILES = (PART, HEADS), (TOKENS, TOKENS_HEADS)
_GROUP_BYTES = 2**28
_GROUP_ROWS = 16_384


def schema(width: int, dtype: str, *, tokens: bool = False) -> pa.Schema:
    """Return the schema of a file.

    Args:
        width: numbers in a vector.
        dtype: `float16` or `float32`.
        tokens: of a file with every token: `position` in the conversation and `role` (`image`,
            `text`, `template`) in place of `token`, which is null when pooled.
    """
    number = {"float16": pa.float16(), "float32": pa.float32()}[dtype]
    vector = pa.list_(pa.field("element", number, nullable=False), width)
    own = [("position", pa.int32()), ("role", pa.string())] if tokens else [("token", pa.int32())]
    fields = [("item_id", pa.string()), ("stream", pa.string()), *own]
    return pa.schema(
        [*(pa.field(*each) for each in fields), pa.field("vector", vector, nullable=False)]
    )


def write_streams(
    path: Path,
    form: pa.Schema,
    streams: Iterable[tuple[str, dict[str, list[Any]], npt.NDArray[Any]]],
) -> None:
    """Write a file, every stream in row groups of its own.

    Args:
        path: of the file.
        form: its schema.
        streams: name, the columns between the name and the vector (and `item_id`), and vectors
            `(rows, width)` of the file's type.
    """
    width, number = form.field("vector").type.list_size, form.field("vector").type.value_type
    rows = max(1, min(_GROUP_ROWS, _GROUP_BYTES // (width * number.bit_width // 8)))
    repeated = [name for name in ("stream", "role") if name in form.names]
    # Ids are all different but for every token of an item: there they are few.
    repeated += ["item_id"] if "role" in form.names else []
    # Floats of activations hardly compress. A row group's vectors are one page, as plain bytes:
    # see `layersight.activations.pages`. Lz4 is the quickest to read of what makes ids smaller.
    compression = {name: "lz4" for name in form.names if name != "vector"}
    with pq.ParquetWriter(
        path,
        form,
        compression={**compression, "vector.list.element": "none"},
        use_dictionary=repeated,
        write_statistics=["item_id", "stream"],
        data_page_size=2 * _GROUP_BYTES,
        max_rows_per_page=_GROUP_ROWS,
    ) as writer:
        for stream, columns, vectors in streams:
            flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
            given = {**columns, "stream": [stream] * len(vectors)}
            table = pa.Table.from_arrays(
                [
                    pa.FixedSizeListArray.from_arrays(flat, type=form.field(name).type)
                    if name == "vector"
                    else pa.array(given[name], form.field(name).type)
                    for name in form.names
                ],
                schema=form,
            )
            writer.write_table(table, row_group_size=rows)
