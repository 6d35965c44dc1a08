"""Writing activations, part by part, so that a job that is killed goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from layersight.activations.schemas import (
    HEADS,
    PART,
    TOKENS,
    TOKENS_HEADS,
    schema,
    write_streams,
)
from layersight.errors import DataError
from layersight.storage.atomic import atomic_file


@dataclass(frozen=True)
class _Rows:
    """Rows of one call of `add`; `vectors` begin at layer `first`."""

    columns: dict[str, list[Any]]
    first: int
    vectors: npt.NDArray[Any]


class ActivationWriter:
    """Writes the layers of one subject on one probe set, part by part.

    At most `rows_per_part` rows a layer (and one call's more) are held in memory, however many
    inputs there are. Beside the layers stands a mark `part-NNNN.json` for every part that all
    layers have; a writer on the same folder goes on after the last of them.

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
        self._held: dict[str, dict[str, list[_Rows]]] = {}
        self._held_rows = 0
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
        streams = self._held.setdefault(file, {})
        streams.setdefault(stream, []).append(_Rows(columns, first, stored))
        self._held_rows += len(item_ids)
        if self._held_rows >= self._rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Write what is held in memory as one more part of every layer."""
        if not self._held:
            return
        part = len(self._finished)
        files: dict[str, list[int]] = {}
        for file, streams in sorted(self._held.items()):
            files[file] = [
                sum(len(rows.columns["item_id"]) for each in streams.values() for rows in each
                    if rows.first <= layer)
                for layer in range(self._layers)
            ]  # fmt: skip
            for layer, count in enumerate(files[file]):
                if count:
                    self._write(file, part, layer, streams)
        # Last of all: the part counts from here on.
        mark = {"calls": self._calls, "rows": self._held_rows, "files": files}
        with atomic_file(self._mark(part)) as beside:
            beside.write_text(json.dumps(mark), encoding="utf-8")
        self._finished.append(files)
        self._rows += self._held_rows
        self._held, self._held_rows = {}, 0

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

    def _write(self, file: str, part: int, layer: int, held: dict[str, list[_Rows]]) -> None:
        streams = []
        for name, calls in sorted(held.items()):
            here = [rows for rows in calls if rows.first <= layer]
            if not here:
                continue
            columns = {
                key: [value for rows in here for value in rows.columns[key]]
                for key in here[0].columns
            }
            vectors = [rows.vectors[layer - rows.first] for rows in here]
            streams.append((name, columns, np.concatenate(vectors)))
        form = schema(streams[0][2].shape[1], self._dtype, tokens=file in (TOKENS, TOKENS_HEADS))
        with atomic_file(self._path(file, layer, part)) as beside:
            write_streams(beside, form, streams)

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
