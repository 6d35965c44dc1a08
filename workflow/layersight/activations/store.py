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
import pyarrow.compute as pc
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
        return columns["item_id"], vectors

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
            columns["item_id"],
            columns["position"],
            columns["role"],
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
            for piece in _pieces(part, stream, names, item)
        ]
        if not pieces:
            stored = sorted(self._names(layer, files))
            if item is not None and stream in stored:
                raise DataError(f"{self.folder}: no item {item!r} in the stream {stream!r}")
            raise DataError(
                f"{self.folder}: no stream {stream!r} in layer {layer}; stored: {stored}"
            )
        columns = {name: _array([piece.columns[name] for piece in pieces]) for name in names}
        count = sum(piece.count for piece in pieces)
        vectors = np.empty((count, pieces[0].width), pieces[0].dtype)
        at = 0
        for piece in pieces:
            piece.read(vectors[at : at + piece.count])
            at += piece.count
        return columns, vectors.astype(np.float32, copy=False)

    def _parts(self, layer: int, files: tuple[str, ...]) -> list[Path]:
        folder = layer_folder(self.folder, layer)
        parts = [path for file in files for path in sorted(folder.glob(f"{file}-[0-9]*.parquet"))]
        if not parts and not any(folder.glob("*.parquet")):
            raise DataError(f"{self.folder}: no layer {layer}; stored: {self.layers}")
        return parts


@dataclass(frozen=True)
class _Piece:
    """Rows of a row group that are asked for; `chosen` None takes all."""

    part: Path
    group: int
    columns: dict[str, pa.Array]
    chosen: npt.NDArray[np.bool_] | None
    facts: Any
    leaf: tuple[int, int]
    width: int
    dtype: type[np.generic]

    @property
    def count(self) -> int:
        return int(
            self.facts.num_values // self.width if self.chosen is None else self.chosen.sum()
        )

    def read(self, out: npt.NDArray[Any]) -> None:
        """Read the vectors into `(count, width)`."""
        whole = out
        if self.chosen is not None:
            whole = np.empty((len(self.chosen), self.width), self.dtype)
        with self.part.open("rb", buffering=0) as plain:
            plainly = read_values(plain, self.facts, self.leaf, whole)
        if not plainly:
            with _opened(self.part) as file:
                read = file.read_row_group(self.group, columns=["vector"], use_threads=False)
            flat = read.column("vector").combine_chunks().flatten()
            whole[:] = flat.to_numpy(zero_copy_only=False).reshape(whole.shape)
        if self.chosen is not None:
            out[:] = whole[self.chosen]


def _pieces(part: Path, stream: str, names: list[str], item: str | None) -> Iterator[_Piece]:
    """Yield what a part has of a stream, row group by row group."""
    with _opened(part) as file:
        form = file.schema_arrow
        where = {name: form.get_field_index(name) for name in form.names}
        vector, leaf = form.field("vector").type, file.schema.column(where["vector"])
        for group in range(file.num_row_groups):
            facts = file.metadata.row_group(group)
            known = facts.column(where["stream"]).statistics
            alone = known is not None and known.has_min_max and known.min == known.max
            if alone and known.min != stream:
                continue
            wanted = names if alone else [*names, "stream"]
            table = file.read_row_group(group, columns=wanted, use_threads=False)
            columns = {name: table.column(name).combine_chunks() for name in wanted}
            chosen = None
            if not alone:
                chosen = pc.equal(columns.pop("stream"), stream).to_numpy(zero_copy_only=False)
            if item is not None:
                here = pc.equal(columns["item_id"], item).to_numpy(zero_copy_only=False)
                chosen = here if chosen is None else chosen & here
            if chosen is not None:
                if not chosen.any():
                    continue
                columns = {name: column.filter(chosen) for name, column in columns.items()}
            yield _Piece(
                part=part,
                group=group,
                columns=columns,
                chosen=chosen,
                facts=facts.column(where["vector"]),
                leaf=(leaf.max_definition_level, leaf.max_repetition_level),
                width=vector.list_size,
                dtype=vector.value_type.to_pandas_dtype(),
            )


@contextmanager
def _opened(part: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pa.OSFile(str(part)) as plain, pq.ParquetFile(plain) as file:
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{part}: not a readable part ({error}); delete it and rerun") from None


def _array(pieces: list[pa.Array]) -> npt.NDArray[Any]:
    """Return pieces of a column as one array; text as numpy's own, of the length of the longest."""
    whole = pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)
    if not pa.types.is_string(whole.type):
        return whole.to_numpy(zero_copy_only=False)
    _, offsets, data = whole.buffers()
    at = np.frombuffer(offsets, np.int32)[whole.offset : whole.offset + len(whole) + 1]
    letters = np.frombuffer(data or b"", np.uint8)[: at[-1]]
    length = int(np.diff(at).max(initial=0))
    if not length or letters.max() > 127:
        return whole.to_numpy(zero_copy_only=False).astype(str)
    # ASCII: every letter becomes one of numpy's four-byte ones, all strings at a time.
    places = at[:-1, None].astype(np.intp) + np.arange(length)
    found = letters.take(places, mode="clip") * (places < at[1:, None])
    return found.astype(np.uint32).view(f"<U{length}")[:, 0]
