"""Activations on disk: one folder a layer, Parquet parts that any reader understands.

`<subject>/<probe>/layer=NN/part-NNNN.parquet` with the columns `item_id`, `stream`, `token`
(index of the token, null when pooled) and `vector` (fixed-size list of float16 or float32).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from layersight.errors import DataError
from layersight.storage.atomic import atomic_file


def schema(width: int, dtype: str) -> pa.Schema:
    """Return the schema of a part whose vectors have `width` numbers of type `dtype`."""
    number = {"float16": pa.float16(), "float32": pa.float32()}[dtype]
    return pa.schema(
        [
            ("item_id", pa.string()),
            ("stream", pa.string()),
            ("token", pa.int32()),
            ("vector", pa.list_(number, width)),
        ]
    )


class ActivationWriter:
    """Writes the layers of one subject on one probe set, part by part.

    At most `rows_per_part` rows a layer (and one call's more) are held in memory, however many
    inputs there are. Beside the layers stands a mark `part-NNNN.json` for every part that all
    layers have; a writer on the same folder goes on after the last of them.

    Args:
        folder: for the parts; parts that are finished there are kept.
        layers: number of layers, L + 1.
        width: numbers in a vector.
        dtype: `float16` or `float32`.
        rows_per_part: rows of one part.
    """

    def __init__(
        self, folder: Path, *, layers: int, width: int, dtype: str, rows_per_part: int
    ) -> None:
        self._folder = folder
        self._layers = layers
        self._schema = schema(width, dtype)
        self._dtype = np.dtype(dtype)
        self._rows_per_part = rows_per_part
        self._parts = 0
        self._calls = 0
        self._rows = 0
        self._ids: list[str] = []
        self._streams: list[str] = []
        self._tokens: list[int | None] = []
        self._vectors: list[np.ndarray] = []
        for layer in range(layers):
            layer_folder(folder, layer).mkdir(parents=True, exist_ok=True)
        while (mark := self._finished(self._parts)) is not None:
            self._parts += 1
            self._calls = mark["calls"]
            self._rows += mark["rows"]
        self._first_call = self._calls

    @property
    def first_call(self) -> int:
        """Calls of `add` whose rows were in finished parts already: the caller leaves them out."""
        return self._first_call

    @property
    def rows(self) -> int:
        """Rows of a layer in finished parts."""
        return self._rows

    def add(
        self,
        item_ids: Sequence[str],
        stream: str,
        tokens: Sequence[int | None],
        vectors: np.ndarray,
    ) -> None:
        """Add the rows of one stream, which may be none: parts count the calls.

        Args:
            item_ids: of the rows.
            stream: what was read off.
            tokens: token index of every row, None when pooled.
            vectors: `(layers, rows, width)` floats.

        Raises:
            DataError: a vector is not finite, or too large for the type on disk.
        """
        with np.errstate(over="ignore"):
            stored = vectors.astype(self._dtype)
        if not np.isfinite(stored).all():
            layer, row = np.argwhere(~np.isfinite(stored).all(axis=2))[0]
            raise DataError(
                f"{self._folder}: item {item_ids[row]}, stream {stream}, layer {layer}: not finite "
                f"as {self._dtype}; store float32, or look for a diverged model"
            )
        self._ids += item_ids
        self._streams += [stream] * len(item_ids)
        self._tokens += tokens
        self._vectors.append(stored)
        self._calls += 1
        if len(self._ids) >= self._rows_per_part:
            self.flush()

    def flush(self) -> None:
        """Write what is held in memory as one more part of every layer."""
        if not self._ids:
            return
        stacked = np.concatenate(self._vectors, axis=1)
        for layer in range(self._layers):
            flat = pa.array(np.ascontiguousarray(stacked[layer]).reshape(-1))
            vectors = pa.FixedSizeListArray.from_arrays(flat, stacked.shape[2])
            table = pa.Table.from_arrays(
                [
                    pa.array(self._ids, pa.string()),
                    pa.array(self._streams, pa.string()),
                    pa.array(self._tokens, pa.int32()),
                    vectors,
                ],
                schema=self._schema,
            )
            with atomic_file(self._path(layer, self._parts)) as beside:
                # Floats of activations hardly compress; plain pages are the quickest to read back.
                pq.write_table(
                    table,
                    beside,
                    compression={
                        "item_id": "zstd",
                        "stream": "zstd",
                        "token": "zstd",
                        "vector": "none",
                    },
                    use_dictionary=["item_id", "stream"],
                    write_statistics=["item_id", "stream"],
                )
        # Last of all: the part counts from here on.
        with atomic_file(self._mark(self._parts)) as beside:
            beside.write_text(
                json.dumps({"calls": self._calls, "rows": len(self._ids)}), encoding="utf-8"
            )
        self._parts += 1
        self._rows += len(self._ids)
        self._ids, self._streams, self._tokens, self._vectors = [], [], [], []

    def place(self, folder: Path) -> None:
        """Give the finished parts a second name in another folder, without copying them.

        They keep their names here, so that a job that is killed right afterwards has them still.
        On a file system without hard links they are moved.
        """
        for layer in range(self._layers):
            layer_folder(folder, layer).mkdir(parents=True, exist_ok=True)
            for part in range(self._parts):
                source = self._path(layer, part)
                target = layer_folder(folder, layer) / source.name
                try:
                    os.link(source, target)
                except OSError:
                    shutil.move(source, target)

    def _finished(self, part: int) -> dict[str, int] | None:
        """Return what the mark of a part says, if all layers have the part whole."""
        try:
            mark = json.loads(self._mark(part).read_text(encoding="utf-8"))
            found = {"calls": int(mark["calls"]), "rows": int(mark["rows"])}
            for layer in range(self._layers):
                with pq.ParquetFile(self._path(layer, part)) as file:
                    if file.metadata.num_rows != found["rows"]:
                        return None
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            return None
        return found

    def _path(self, layer: int, part: int) -> Path:
        return layer_folder(self._folder, layer) / f"part-{part:04d}.parquet"

    def _mark(self, part: int) -> Path:
        return Path(self._folder) / f"part-{part:04d}.json"


class ActivationStore:
    """Reads the activations of one subject on one probe set."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no activations here; run the rule `activations`")

    @property
    def layers(self) -> list[int]:
        """Layers that are stored, ascending."""
        return sorted(int(path.name.removeprefix("layer=")) for path in self.folder.glob("layer=*"))

    def streams(self) -> list[str]:
        """Streams that are stored, sorted."""
        found: set[str] = set()
        for part in self._parts(self.layers[0]):
            found.update(self._read(part, ["stream"]).column("stream").to_pylist())
        return sorted(found)

    def read(self, layer: int, stream: str) -> tuple[np.ndarray, np.ndarray]:
        """Return item ids `(n,)` and vectors `(n, width)` float32 of one layer and stream.

        Raises:
            DataError: no such layer or stream, or an unreadable part.
        """
        ids: list[np.ndarray] = []
        vectors: list[np.ndarray] = []
        for part in self._parts(layer):
            table = self._read(part, ["item_id", "stream", "vector"])
            table = table.filter(pc.equal(table.column("stream"), stream))
            for chunk in table.column("vector").chunks:
                width = chunk.type.list_size
                vectors.append(chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, width))
            ids.append(table.column("item_id").to_numpy(zero_copy_only=False))
        if not ids or sum(len(part) for part in ids) == 0:
            raise DataError(f"{self.folder}: no stream {stream!r}; stored: {self.streams()}")
        return np.concatenate(ids).astype(str), np.concatenate(vectors).astype(np.float32)

    def _parts(self, layer: int) -> list[Path]:
        parts = sorted(layer_folder(self.folder, layer).glob("part-*.parquet"))
        if not parts:
            raise DataError(f"{self.folder}: no layer {layer}; stored: {self.layers}")
        return parts

    def _read(self, part: Path, columns: list[str]) -> pa.Table:
        try:
            return pq.ParquetFile(part).read(columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{part}: not a readable part ({error}); delete it and rerun") from None


def layer_folder(folder: Path, layer: int) -> Path:
    """Return the folder of one layer."""
    return Path(folder) / f"layer={layer:02d}"
