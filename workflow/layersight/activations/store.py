"""Activations on disk: one folder a layer, Parquet parts that any reader understands.

`<subject>/<probe>/layer=NN/part-NNNN.parquet` with the columns `item_id`, `stream`, `token`
(index of the token, null when pooled) and `vector` (fixed-size list of float16 or float32); see
`layersight.activations.schemas` for the files beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from layersight.activations.pages import read_values
from layersight.activations.schemas import POOLED_FILES, TOKEN_FILES
from layersight.activations.writer import ActivationWriter, layer_folder
from layersight.errors import DataError

__all__ = ["ActivationStore", "ActivationWriter", "TokenVectors", "layer_folder"]


@dataclass(frozen=True)
class TokenVectors:
    """Every token of some items, item by item, in the order of the conversation.

    Attributes:
        item_ids: `(n,)` str.
        positions: `(n,)` int32, the token's index in its conversation.
        roles: `(n,)` str: `image`, `text` or `template`.
        vectors: `(n, width)` float32.
    """

    item_ids: npt.NDArray[np.str_]
    positions: npt.NDArray[np.int32]
    roles: npt.NDArray[np.str_]
    vectors: npt.NDArray[np.float32]


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
        """Streams of the residual stream with one vector an input, sorted."""
        return sorted(self._names(self.layers[0], POOLED_FILES))

    def site_streams(self) -> list[str]:
        """Streams read at other sites, such as `last.attention`, sorted; layer 0 has none."""
        return sorted(self._names(self.layers[-1], POOLED_FILES) - set(self.streams()))

    def read(self, layer: int, stream: str) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.float32]]:
        """Return item ids `(n,)` and vectors `(n, width)` float32 of one layer and stream.

        Raises:
            DataError: no such layer or stream, or an unreadable part.
        """
        columns, vectors = self._stream(layer, stream, POOLED_FILES, ["item_id"], None)
        return columns["item_id"].astype(str), vectors

    def read_tokens(
        self, layer: int, *, item: str | None = None, stream: str = "all"
    ) -> TokenVectors:
        """Return every token of one item, or of all, at one layer.

        Args:
            layer: the layer.
            item: its id; None for all.
            stream: `all`, or `all.attention`, `all.mlp` or `all.heads`.

        Raises:
            DataError: no such layer, stream or item, or an unreadable part.
        """
        columns, vectors = self._stream(
            layer, stream, TOKEN_FILES, ["item_id", "position", "role"], item
        )
        return TokenVectors(
            columns["item_id"].astype(str),
            columns["position"].astype(np.int32),
            columns["role"].astype(str),
            vectors,
        )

    def _names(self, layer: int, files: tuple[str, ...]) -> set[str]:
        found: set[str] = set()
        for part in self._parts(layer, files):
            with _opened(part) as file:
                found.update(file.read(columns=["stream"]).column("stream").to_pylist())
        return found

    def _stream(
        self, layer: int, stream: str, files: tuple[str, ...], names: list[str], item: str | None
    ) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.float32]]:
        """Return columns of a stream's rows, and their vectors."""
        pieces = [
            piece
            for part in self._parts(layer, files)
            for piece in _rows_of(part, stream, names, item)
        ]
        if not pieces:
            stored = sorted(self._names(layer, files))
            if item is not None and stream in stored:
                raise DataError(f"{self.folder}: no item {item!r} in the stream {stream!r}")
            raise DataError(
                f"{self.folder}: no stream {stream!r} in layer {layer}; stored: {stored}"
            )
        columns = {
            name: np.concatenate([piece[0][name] for piece in pieces])
            if len(pieces) > 1
            else pieces[0][0][name]
            for name in names
        }
        vectors = pieces[0][1] if len(pieces) == 1 else np.concatenate([v for _, v in pieces])
        return columns, vectors.astype(np.float32, copy=False)

    def _parts(self, layer: int, files: tuple[str, ...]) -> list[Path]:
        folder = layer_folder(self.folder, layer)
        parts = [path for file in files for path in sorted(folder.glob(f"{file}-[0-9]*.parquet"))]
        if not parts and not any(folder.glob("*.parquet")):
            raise DataError(f"{self.folder}: no layer {layer}; stored: {self.layers}")
        return parts


def _rows_of(
    part: Path, stream: str, names: list[str], item: str | None
) -> Iterator[tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]]:
    """Yield columns and vectors of a stream, row group by row group."""
    with _opened(part) as file, part.open("rb") as plain:
        where = {name: file.schema_arrow.get_field_index(name) for name in file.schema_arrow.names}
        for group in range(file.num_row_groups):
            facts = file.metadata.row_group(group)
            known = facts.column(where["stream"]).statistics
            alone = known is not None and known.has_min_max and known.min == known.max
            if alone and known.min != stream:
                continue
            wanted = names if alone else [*names, "stream"]
            table = file.read_row_group(group, columns=wanted, use_threads=False)
            columns = {name: table.column(name).to_numpy() for name in wanted}
            chosen = None if alone else columns.pop("stream") == stream
            if item is not None:
                here = columns["item_id"] == item
                chosen = here if chosen is None else chosen & here
            if chosen is not None and not chosen.any():
                continue
            vectors = _vectors(file, plain, group, where["vector"])
            if chosen is not None:
                columns = {name: column[chosen] for name, column in columns.items()}
                vectors = vectors[chosen]
            yield columns, vectors


def _vectors(file: pq.ParquetFile, plain: Any, group: int, index: int) -> npt.NDArray[Any]:
    """Return the vectors of a row group, `(rows, width)`, as they are stored."""
    form = file.schema_arrow.field(index).type
    facts, leaf = file.metadata.row_group(group), file.schema.column(index)
    depth = (leaf.max_definition_level, leaf.max_repetition_level)
    out = np.empty((facts.num_rows, form.list_size), form.value_type.to_pandas_dtype())
    if read_values(plain, facts.column(index), depth, out):
        return out
    read = file.read_row_group(group, columns=["vector"], use_threads=False).column("vector")
    flat = read.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(flat).reshape(out.shape)


@contextmanager
def _opened(part: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(part) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{part}: not a readable part ({error}); delete it and rerun") from None
