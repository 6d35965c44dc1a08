"""Writing activations, part by part, so that a job that is killed goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from layersight.activations.schemas import (
    HEADS,
    PART,
    TOKEN_FILES,
    TOKENS,
    TOKENS_HEADS,
    schema,
    write_streams,
)
from layersight.errors import DataError
from layersight.storage.atomic import atomic_file


@dataclass(frozen=True)
class _Rows:
    """Rows of one call of `add`; their vectors wait on disk.

    Attributes:
        columns: what the rows have besides their vectors.
        first: layer that the vectors begin at.
        width: numbers in a vector.
    """

    columns: dict[str, list[Any]]
    first: int
    width: int

    def __len__(self) -> int:
        return len(self.columns["item_id"])


class ActivationWriter:
    """Writes the layers of one subject on one probe set, part by part.

    Vectors of an unfinished part wait in nameless temporary files, one a layer, so that memory
    holds one layer of a part at a time, however many inputs there are. Beside the layers stands a
    mark `part-NNNN.json` for every part that all layers have; a writer on the same folder goes on
    after the last of them.

    Args:
        folder: for the parts; parts that are finished there are kept.
        layers: number of layers, L + 1.
        width: numbers in a vector of the residual stream.
        dtype: `float16` or `float32`.
        rows_per_part: rows of one part, those of all files together.
    """

    def __init__(
        self, folder: Path, *, layers: int, width: int, dtype: str, rows_per_part: int
    ) -> None:
        self._folder = Path(folder)
        self._layers = layers
        self._dtype = dtype
        self._rows_per_part = rows_per_part
        self._calls = 0
        self._rows = 0
        self._held: list[tuple[str, str, _Rows]] = []
        self._held_rows = 0
        self._waiting: list[IO[bytes]] = []
        self._finished: list[dict[str, list[int]]] = []
        for layer in range(layers):
            layer_folder(folder, layer).mkdir(parents=True, exist_ok=True)
        while (mark := self._read_mark(len(self._finished))) is not None:
            self._finished.append(mark["files"])
            self._calls = mark["calls"]
            self._rows += mark["rows"]
        self._first_call = self._calls

    @property
    def first_call(self) -> int:
        """Calls of `add` whose rows were in finished parts already: the caller leaves them out."""
        return self._first_call

    @property
    def rows(self) -> int:
        """Rows of the last layer in finished parts, those of all files together."""
        return self._rows

    def add(
        self,
        item_ids: Sequence[str],
        stream: str,
        tokens: Sequence[int | None],
        vectors: npt.NDArray[Any],
        *,
        roles: Sequence[str] | None = None,
        heads: bool = False,
    ) -> None:
        """Add the rows of one stream, which may be none: parts count the calls.

        Args:
            item_ids: of the rows.
            stream: what was read off.
            tokens: token index of every row, None when pooled.
            vectors: `(layers, rows, width)` floats; one layer less for a stream that layer 0 does
                not have.
            roles: role of every row's token; the rows are then every token of their items.
            heads: the vectors are the heads' outputs, whose width may be another.

        Raises:
            DataError: a vector is not finite, or too large for the type on disk.
        """
        first = self._layers - len(vectors)
        with np.errstate(over="ignore"):
            stored = vectors.astype(self._dtype)
        if not np.isfinite(stored).all():
            layer, row = np.argwhere(~np.isfinite(stored).all(axis=2))[0]
            raise DataError(
                f"{self._folder}: item {item_ids[row]}, stream {stream}, layer {layer + first}: "
                f"not finite as {self._dtype}; store float32, or look for a diverged model"
            )
        self._calls += 1
        if not item_ids:
            return
        columns: dict[str, list[Any]] = {"item_id": list(item_ids)}
        if roles is None:
            columns["token"] = list(tokens)
        else:
            columns |= {"position": list(tokens), "role": list(roles)}
        file = {(False, False): PART, (True, False): HEADS, (False, True): TOKENS}.get(
            (heads, roles is not None), TOKENS_HEADS
        )
        if not self._waiting:
            # Closed when the part is written, or with the process: they have no names.
            self._waiting = [
                TemporaryFile(dir=self._folder)  # noqa: SIM115
                for _ in range(self._layers)
            ]
        for layer, numbers in enumerate(stored, first):
            self._waiting[layer].write(np.ascontiguousarray(numbers).data)
        self._held.append((file, stream, _Rows(columns, first, stored.shape[2])))
        self._held_rows += len(item_ids)
        if self._held_rows >= self._rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Write the rows since the last part as one more part of every layer."""
        if not self._held:
            return
        part = len(self._finished)
        files: dict[str, list[int]] = {file: [0] * self._layers for file, _, _ in self._held}
        for layer in range(self._layers):
            for file, counts in files.items():
                counts[layer] = self._write(file, part, layer)
        # Last of all: the part counts from here on.
        mark = {"calls": self._calls, "rows": self._held_rows, "files": files}
        with atomic_file(self._mark(part)) as beside:
            beside.write_text(json.dumps(mark), encoding="utf-8")
        self._finished.append(files)
        self._rows += self._held_rows
        self._held, self._held_rows = [], 0
        self._close()

    def place(self, folder: Path) -> None:
        """Give the finished parts a second name in another folder, without copying them.

        They keep their names here, so that a job that is killed right afterwards has them still.
        On a file system without hard links they are moved.
        """
        for layer in range(self._layers):
            layer_folder(folder, layer).mkdir(parents=True, exist_ok=True)
        for part, files in enumerate(self._finished):
            for source in self._paths(part, files):
                target = Path(folder) / source.relative_to(self._folder)
                try:
                    os.link(source, target)
                except OSError:
                    shutil.move(source, target)

    def _write(self, file: str, part: int, layer: int) -> int:
        """Write one file, if it has rows; return how many."""
        number = np.dtype(self._dtype).itemsize
        where: dict[str, list[tuple[int, _Rows]]] = {}
        offset, count = 0, 0
        for other, stream, rows in self._held:
            if rows.first > layer:
                continue
            if other == file:
                where.setdefault(stream, []).append((offset, rows))
                count += len(rows)
            offset += len(rows) * rows.width * number
        if not count:
            return 0
        width = next(rows.width for found in where.values() for _, rows in found)
        form = schema(width, self._dtype, tokens=file in TOKEN_FILES)
        with atomic_file(self._path(file, layer, part)) as beside:
            write_streams(
                beside, form, ((name, *self._back(layer, where[name])) for name in sorted(where))
            )
        return count

    def _back(
        self, layer: int, calls: list[tuple[int, _Rows]]
    ) -> tuple[dict[str, list[Any]], npt.NDArray[Any]]:
        """Return columns and vectors of one stream at one layer."""
        columns = {
            key: [value for _, rows in calls for value in rows.columns[key]]
            for key in calls[0][1].columns
        }
        width = calls[0][1].width
        vectors = np.empty((sum(len(rows) for _, rows in calls), width), self._dtype)
        at = 0
        for offset, rows in calls:
            self._waiting[layer].seek(offset)
            piece = vectors[at : at + len(rows)]
            if self._waiting[layer].readinto(memoryview(piece).cast("B")) != piece.nbytes:  # type: ignore[attr-defined, arg-type]
                raise OSError(errno.EIO, "a part could not be read back", str(self._folder))
            at += len(rows)
        return columns, vectors

    def _close(self) -> None:
        for file in self._waiting:
            file.close()
        self._waiting = []

    def _read_mark(self, part: int) -> dict[str, Any] | None:
        """Return what the mark of a part says, if all layers have the part whole."""
        try:
            mark = json.loads(self._mark(part).read_text(encoding="utf-8"))
            files = {name: list(counts) for name, counts in mark["files"].items()}
            found = {"calls": int(mark["calls"]), "rows": int(mark["rows"]), "files": files}
            for name, counts in files.items():
                if len(counts) != self._layers:
                    return None
                for layer, count in enumerate(counts):
                    if count:
                        with pq.ParquetFile(self._path(name, layer, part)) as file:
                            if file.metadata.num_rows != count:
                                return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
            return None
        return found

    def _paths(self, part: int, files: dict[str, list[int]]) -> list[Path]:
        return [
            self._path(name, layer, part)
            for name, counts in files.items()
            for layer, count in enumerate(counts)
            if count
        ]

    def _path(self, file: str, layer: int, part: int) -> Path:
        return layer_folder(self._folder, layer) / f"{file}-{part:04d}.parquet"

    def _mark(self, part: int) -> Path:
        return self._folder / f"part-{part:04d}.json"


def layer_folder(folder: Path, layer: int) -> Path:
    """Return the folder of one layer."""
    return Path(folder) / f"layer={layer:02d}"
