"""Tables of conversations that are read when a row is asked for, however many rows they have."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from layersight.data.conversation import Tokens
from layersight.data.rows import RowReader, twice
from layersight.data.schemas import CONVERSATIONS, INSTRUCT
from layersight.errors import DataError
from layersight.progress import Progress
from layersight.storage import tables
from layersight.storage.atomic import atomic_file
from layersight.study import Study, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHE_BYTES = 64 * 2**20
"""Memory for the row groups that were read last."""
GROUP_ROWS = 256
"""Rows of a row group in a table made to be read row by row: few, as one row costs its group."""
_LARGE_GROUP = 2 * 2**20


class ConversationTable:
    """Conversations of a table, tokenised when they are asked for.

    Memory holds a few bytes a row and the row groups that were read last. `table[row]` are the
    tokens of a row, and `table.images[row]` is its picture. A table that does not fit into the
    cache and has large row groups is first copied, with small ones, into the work folder.

    Args:
        study: gives the system prompt and the template.
        path: a Parquet file, or a folder whose `*.parquet` are the parts, in the order of names.
        tokenizer: of the language model.
        image_tokens: positions that one image takes.
        template: how a conversation becomes text; None takes the backbone's way.
        longest: see `layersight.data.rows.RowReader`.
        work: folder for the lengths of the rows, which a later call then need not find again;
            None keeps them in memory.
        cache_bytes: memory for row groups; the one in use is kept however large it is.

    Raises:
        DataError: no such table, not readable, without rows, or without the columns needed.
    """

    def __init__(
        self,
        study: Study,
        path: Path,
        tokenizer: PreTrainedTokenizerBase,
        image_tokens: int,
        *,
        template: Template | None = None,
        longest: int | None = None,
        work: Path | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.path = Path(path)
        self._paths = _parts(self.path)
        self._files = [_open(part) for part in self._paths]
        answered = "answer_class" in self._files[0].schema_arrow.names
        self._schema = INSTRUCT if answered else CONVERSATIONS
        for part, file in zip(self._paths, self._files, strict=True):
            # Before any row is read: columns and their types.
            tables.fitted(part, file.schema_arrow.empty_table(), self._schema)
        self._reader = RowReader(
            study, tokenizer, image_tokens, template, answered=answered, longest=longest
        )
        self._key = self._digest(tokenizer)
        self._work = work
        if work is not None and self._is_unwieldy(cache_bytes):
            self._paths = [self._copied(work)]
            self._files = [_open(self._paths[0])]
        sizes = [
            (part, group, file.metadata.row_group(group).num_rows)
            for part, file in enumerate(self._files)
            for group in range(file.num_row_groups)
        ]
        self._groups = np.array([size[:2] for size in sizes], dtype=np.int32).reshape(-1, 2)
        self._starts = np.cumsum([0] + [size[2] for size in sizes], dtype=np.int64)
        if not len(self):
            raise DataError(f"{self.path}: has no rows")
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        self._cached = 0
        self._cache_bytes = cache_bytes
        self._signed: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> Tokens:
        return self.row(row)[0]

    def row(self, row: int) -> tuple[Tokens, str | None]:
        """Return tokens and picture of a row.

        Raises:
            IndexError: no such row.
            DataError: the row cannot be used, see `layersight.data.rows.tokenized_rows`.
        """
        part, group, offset = self._find(row)
        found: dict[str, Any] = group.slice(offset, 1).to_pylist()[0]
        return self._reader.tokens(found, self._paths[part]), found["image_id"]

    @property
    def images(self) -> Images:
        """The picture of every row, or None."""
        return Images(self)

    def image(self, row: int) -> str | None:
        """Return the picture of a row, or None.

        Raises:
            IndexError: no such row.
        """
        _, group, offset = self._find(row)
        found: str | None = group.column("image_id")[offset].as_py()
        return found

    def lengths(self) -> np.ndarray:
        """Return the number of tokens of every row, `(rows,)` int32.

        The first call reads the whole table once, and so checks every row.

        Raises:
            DataError: a row cannot be used, see `layersight.data.rows.tokenized_rows`.
        """
        return np.abs(self._scanned())

    def pictured(self) -> np.ndarray:
        """Return for every row whether it has a picture, `(rows,)` bool; reads as `lengths`."""
        return self._scanned() > 0

    def _find(self, row: int) -> tuple[int, pa.Table, int]:
        """Return the row's part, its row group, and its place in that."""
        if not 0 <= row < len(self):
            raise IndexError(f"{self.path}: row {row} of {len(self)}")
        index = int(np.searchsorted(self._starts, row, side="right")) - 1
        part = int(self._groups[index, 0])
        if index in self._cache:
            self._cache.move_to_end(index)
        else:
            table = self._read(part, int(self._groups[index, 1]), int(self._starts[index]))
            self._cache[index] = table
            self._cached += table.nbytes
            while self._cached > self._cache_bytes and len(self._cache) > 1:
                self._cached -= self._cache.popitem(last=False)[1].nbytes
        return part, self._cache[index], row - int(self._starts[index])

    def _read(self, part: int, group: int, start: int) -> pa.Table:
        path = self._paths[part]
        try:
            table = self._files[part].read_row_group(group, columns=CONVERSATIONS.names)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(path, error) from None
        return tables.fitted(_from(path, start), table, CONVERSATIONS)

    def _batches(self, columns: list[str]) -> Iterator[tuple[int, int, pa.Table]]:
        """Yield part, first row in it, and a few rows, through the whole table."""
        for part, path in enumerate(self._paths):
            start = 0
            try:
                # Buffered, so that a large row group is read piece by piece.
                with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
                    for batch in file.iter_batches(GROUP_ROWS, columns=columns, use_threads=False):
                        yield part, start, pa.Table.from_batches([batch])
                        start += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise _unreadable(path, error) from None

    def _scanned(self) -> np.ndarray:
        """Return the length of every row, negative where it has no picture."""
        if self._signed is None:
            kept = None if self._work is None else self._work / f"lengths-{self._key}.npy"
            if kept is None:
                self._signed = self._scan()
            else:
                self._signed = _load(kept, len(self))
                if self._signed is None:
                    with atomic_file(kept) as beside, beside.open("wb") as file:
                        np.save(file, self._scan(), allow_pickle=False)
                    self._signed = np.load(kept, mmap_mode="r", allow_pickle=False)
        return self._signed

    def _scan(self) -> np.ndarray:
        signed = np.empty(len(self), dtype=np.int32)
        names = np.empty(len(self), dtype=np.uint64)
        row = 0
        with Progress(len(self), f"{self.path.name}: conversation") as progress:
            for part, start, batch in self._batches(self._schema.names):
                path = self._paths[part]
                checked = tables.fitted(_from(path, start), batch, self._schema)
                for found in checked.select(CONVERSATIONS.names).to_pylist():
                    length = len(self._reader.tokens(found, path).input_ids)
                    signed[row] = length if found["image_id"] is not None else -length
                    names[row] = _hash(found["item_id"])
                    row += 1
                progress.advance(batch.num_rows)
        self._check_names(names)
        return signed

    def _check_names(self, names: np.ndarray) -> None:
        """Refuse an item that occurs twice, by hashes first: names would fill the memory."""
        names.sort()
        suspects = {int(name) for name in names[1:][names[1:] == names[:-1]]}
        if not suspects:
            return
        seen: set[str] = set()
        for part, _, batch in self._batches(["item_id"]):
            for item in batch.column("item_id").to_pylist():
                if _hash(item) in suspects:
                    if item in seen:
                        raise twice(self._paths[part], item)
                    seen.add(item)

    def _is_unwieldy(self, cache_bytes: int) -> bool:
        sizes = [
            file.metadata.row_group(group).total_byte_size
            for file in self._files
            for group in range(file.num_row_groups)
        ]
        return sum(sizes) > cache_bytes and max(sizes, default=0) > _LARGE_GROUP

    def _copied(self, work: Path) -> Path:
        """Return a copy of the table in one file with small row groups."""
        copy = work / f"conversations-{self._key}.parquet"
        if not copy.is_file():
            with (
                atomic_file(copy) as beside,
                pq.ParquetWriter(beside, self._schema, compression="zstd") as writer,
            ):
                for part, start, batch in self._batches(self._schema.names):
                    where = _from(self._paths[part], start)
                    writer.write_table(tables.fitted(where, batch, self._schema))
        return copy

    def _digest(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return what the lengths depend on, in short."""
        digest = hashlib.sha256(json.dumps(self._reader.settings, sort_keys=True).encode())
        for part in self._paths:
            status = part.stat()
            digest.update(f"{part.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        digest.update(str(tokenizer.chat_template).encode())
        digest.update(tokenizer.backend_tokenizer.to_str().encode())
        return digest.hexdigest()[:16]


class Images:
    """The picture of every row of a table, or None, by the row.

    Args:
        table: the table.
    """

    def __init__(self, table: ConversationTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, row: int) -> str | None:
        return self._table.image(row)

    def __iter__(self) -> Iterator[str | None]:
        for _, _, batch in self._table._batches(["image_id"]):
            yield from batch.column("image_id").to_pylist()


def _parts(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    parts = sorted(part for part in path.glob("*.parquet") if not part.name.startswith("."))
    if not parts:
        raise DataError(f"{path}: a folder without *.parquet files; expected the table's parts")
    return parts


def _open(path: Path) -> pq.ParquetFile:
    if not path.is_file():
        raise DataError(f"{path}: no such table; run the rule that makes it")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable Parquet file ({error}); delete it and rerun")


def _from(path: Path, row: int) -> Path:
    """Return the path as messages on some rows of a table name it."""
    return path.with_name(f"{path.name} from row {row} on") if row else path


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _load(path: Path, rows: int) -> np.ndarray | None:
    """Return kept lengths; None if there are none that can be used."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == (rows,) and found.dtype == np.int32 else None
