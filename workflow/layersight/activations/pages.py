"""The numbers of a Parquet column of fixed-size lists, read as the bytes that they are.

Arrow's reader rebuilds lists number by number, which takes several times as long as reading the
bytes. Where a column chunk is one plain, uncompressed data page without nulls, as this project
writes them, its last bytes are the numbers in order (Apache Parquet, Data Pages and Plain encoding;
the page header is a Thrift struct in the compact protocol).
"""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy.typing as npt

_HEADER = 64
"""Bytes that hold the header of a page without statistics."""
_DATA_PAGE, _PLAIN = 0, 0
_I32, _STRUCT = 5, 12


def read_values(file: BinaryIO, chunk: Any, depth: tuple[int, int], out: npt.NDArray[Any]) -> bool:
    """Read the numbers of a column chunk into an array, if they lie in the file as they are.

    Args:
        file: the Parquet file.
        chunk: pyarrow's `ColumnChunkMetaData` of the lists' numbers.
        depth: largest definition and repetition level of the column: `(1, 1)` for lists that are
            never null, of numbers that are never null.
        out: C-contiguous, of the column's type and as many numbers as the chunk has.

    Returns:
        Whether they do; otherwise `out` is as it was, and a Parquet reader has to read them.
    """
    if (
        depth != (1, 1)
        or chunk.compression != "UNCOMPRESSED"
        or chunk.has_dictionary_page
        or chunk.num_values != out.size
    ):
        return False
    start, size = chunk.data_page_offset, chunk.total_compressed_size
    file.seek(start)
    if size < out.nbytes or not _one_plain_page(file.read(_HEADER), out.size):
        return False
    file.seek(start + size - out.nbytes)
    view = memoryview(out).cast("B")  # type: ignore[arg-type]
    return file.readinto(view) == out.nbytes  # type: ignore[attr-defined]


def _one_plain_page(header: bytes, values: int) -> bool:
    """Return whether a page header is of a plain data page with so many values."""
    try:
        at, field, found = 0, 0, {}
        # Fields of PageHeader: 1 type, 2 and 3 sizes, 4 checksum, 5 the header of a data page.
        while field < 5:
            kind, field, at = _field(header, at, field)
            if kind == _I32:
                found[field], at = _integer(header, at)
            elif (kind, field) != (_STRUCT, 5):
                return False
        # Of DataPageHeader: 1 number of values, 2 encoding.
        inner = 0
        for wanted in (1, 2):
            kind, inner, at = _field(header, at, inner)
            if (kind, inner) != (_I32, wanted):
                return False
            found[10 + wanted], at = _integer(header, at)
    except IndexError:
        return False
    return (found.get(1), found[11], found[12]) == (_DATA_PAGE, values, _PLAIN)


def _field(data: bytes, at: int, before: int) -> tuple[int, int, int]:
    """Return type and number of the field whose short header stands here, and what follows."""
    return data[at] & 0x0F, before + (data[at] >> 4), at + 1


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """Return the zigzag variable-length integer that stands here, and what follows."""
    number, shift = 0, 0
    while True:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return (number >> 1) ^ -(number & 1), at
