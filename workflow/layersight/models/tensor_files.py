"""The tensors of a model's folder by name, read one at a time."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from layersight.errors import AssetError
from layersight.models.safe_files import check_model_folder

_INDEX = "model.safetensors.index.json"


class TensorFiles:
    """All tensors in the safetensors of a folder; a context manager that holds the files open.

    A tensor is mapped from its file, not copied into memory, until something is computed with it.

    Args:
        folder: as transformers saves a model; with an index, only the files that it names count.

    Raises:
        AssetError: there are no readable safetensors, or the index names a file that is missing.
    """

    def __init__(self, folder: Path) -> None:
        check_model_folder(folder)
        self.folder = folder
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        try:
            for path in _files(folder):
                file = self._stack.enter_context(safe_open(path, framework="pt"))
                self._files |= dict.fromkeys(file.keys(), file)
        except (OSError, SafetensorError) as error:
            self._stack.close()
            raise AssetError(f"{folder}: its weights are not readable ({error})") from None

    def __enter__(self) -> TensorFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self._files)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor.

        Raises:
            AssetError: there is none of this name.
        """
        if name not in self._files:
            raise AssetError(f"{self.folder}: the tensor {name} is missing")
        found: torch.Tensor = self._files[name].get_tensor(name)
        return found


def _files(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise AssetError(f"{index}: not readable ({error})") from None
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise AssetError(f"{folder}: has no {missing[0]}, which {_INDEX} names; copy it again")
    return [folder / name for name in sorted(names)]
