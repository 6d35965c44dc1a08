"""Image features of the frozen vision encoder, computed once and read by every later step."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from layersight.errors import DataError
from layersight.storage.atomic import atomic_file

_TYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Pictures that are in memory at a time while all of them are read.
_AT_ONCE = 64


class ImageInputs(Protocol):
    """What batches take of pictures: features, or for a model that computes them, the pixels."""

    @property
    def tokens(self) -> int:
        """Image tokens of one picture."""
        ...

    def take(self, image_ids: Sequence[str], /) -> torch.Tensor:
        """Return features `(n, tokens, channels)`, or pixels `(n, side, side, 3)` uint8."""
        ...


class FeatureStore:
    """Features of all pictures of a study, in memory or, when loaded, read when asked for.

    Args:
        image_ids: the pictures.
        features: `(images, tokens, channels)`, in their order.
    """

    def __init__(self, image_ids: Sequence[str], features: torch.Tensor) -> None:
        self._row = {image_id: row for row, image_id in enumerate(image_ids)}
        self._shape = tuple(features.shape)
        self._stored: torch.Tensor | _File = features

    def __len__(self) -> int:
        return self._shape[0]

    @property
    def tokens(self) -> int:
        """Image tokens of one picture."""
        return int(self._shape[1])

    @property
    def channels(self) -> int:
        """Width of a feature."""
        return int(self._shape[2])

    @property
    def features(self) -> torch.Tensor:
        """All features, `(images, tokens, channels)`; a loaded store reads them into memory."""
        return (
            self._stored if isinstance(self._stored, torch.Tensor) else self._rows(range(len(self)))
        )

    def take(self, image_ids: Sequence[str]) -> torch.Tensor:
        """Return the features of some pictures, `(len(image_ids), tokens, channels)`.

        Raises:
            DataError: a picture that has no features, or a file that was cut off meanwhile.
        """
        missing = sorted({image for image in image_ids if image not in self._row})
        if missing:
            raise DataError(f"no image features for {', '.join(missing[:5])}; rerun `features`")
        return self._rows([self._row[image] for image in image_ids])

    def moments(self, image_ids: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation of every channel, `(channels,)` float64 each.

        Over all tokens of these pictures, of which a few are in memory at a time.

        Raises:
            DataError: as `take`.
        """
        count = len(image_ids) * self.tokens
        mean = torch.zeros(self.channels, dtype=torch.float64)
        for flat in self._flat(image_ids):
            mean += flat.sum(0) / count
        # A second pass: one pass over the squares would lose the digits of a small deviation.
        squares = torch.zeros_like(mean)
        for flat in self._flat(image_ids):
            squares += (flat - mean).square().sum(0)
        return mean, (squares / max(count - 1, 1)).sqrt()

    def _flat(self, image_ids: Sequence[str]) -> Iterator[torch.Tensor]:
        for start in range(0, len(image_ids), _AT_ONCE):
            yield self.take(image_ids[start : start + _AT_ONCE]).double().flatten(0, 1)

    def _rows(self, rows: Sequence[int]) -> torch.Tensor:
        if isinstance(self._stored, torch.Tensor):
            return self._stored[list(rows)]
        return self._stored.read(rows, self._shape[1:])

    @classmethod
    def of(cls, path: Path | None) -> FeatureStore:
        """Open a store; None gives one without pictures, for a subject that reads text only."""
        return cls([], torch.zeros(0, 0, 0)) if path is None else cls.load(path)

    @classmethod
    def load(cls, path: Path) -> FeatureStore:
        """Open a store; features are read when they are asked for.

        Raises:
            DataError: missing or not a readable safetensors file.
        """
        try:
            with safe_open(path, framework="pt") as file:  # checks that the file is whole
                ids = json.loads(file.metadata()["image_ids"])
                shape = tuple(file.get_slice("features").get_shape())
            stored = _File(path)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: not readable image features ({error}); delete it and rerun `features`"
            ) from None
        if len(shape) != 3 or len(ids) != shape[0]:
            raise DataError(
                f"{path}: features of the shape {shape} for {len(ids)} pictures; "
                f"expected (pictures, tokens, channels)"
            )
        store = cls(ids, torch.empty(0, 0, 0))
        store._shape, store._stored = shape, stored
        return store

    def save(self, path: Path) -> None:
        """Write the store atomically."""
        with atomic_file(path) as beside:
            save_file(
                {"features": self.features.contiguous()},
                beside,
                metadata={"image_ids": json.dumps(list(self._row))},
            )


class _File:
    """The tensor `features` of a safetensors file, read picture by picture.

    By reads and not by a memory map, as safetensors' own slices are: a map keeps every page that
    was touched in the process, so that an epoch would fill the memory with the whole file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = open(path, "rb", buffering=0)  # noqa: SIM115 (as long as the store)
        size = int.from_bytes(self._file.read(8), "little")
        entry = json.loads(self._file.read(size))["features"]
        if entry["dtype"] not in _TYPES:
            raise ValueError(f"features of the type {entry['dtype']}; known: {', '.join(_TYPES)}")
        self._dtype = _TYPES[entry["dtype"]]
        self._start = 8 + size + int(entry["data_offsets"][0])

    def read(self, rows: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
        found = torch.empty(len(rows), *shape, dtype=self._dtype)
        size = math.prod(shape) * self._dtype.itemsize
        for place, row in enumerate(rows):
            target = found[place].view(-1).view(torch.uint8).numpy().data
            if os.preadv(self._file.fileno(), [target], self._start + row * size) != size:
                raise DataError(f"{self._path}: ends too early; delete it and rerun `features`")
        return found
