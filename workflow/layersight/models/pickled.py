"""Weights that were published as a pickle, turned into safetensors.

python -m layersight.models.pickled FOLDER OUT   # a model with pytorch_model*.bin to a new folder
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import save_file

from layersight.errors import AssetError, UserError
from layersight.storage.atomic import atomic_folder

_INDEX = "model.safetensors.index.json"
COMPUTED = ("rotary_emb.inv_freq", ".masked_bias", "attn.bias_mask")
"""How names of buffers end that older versions of transformers saved and newer ones compute."""


def convert_pickles(pickles: Sequence[Path], folder: Path) -> None:
    """Write the tensors of a model's pickles as safetensors, with an index if there are several.

    `torch.load(weights_only=True)` refuses whatever is not a tensor, so no code runs. One file is
    in memory at a time.

    Args:
        pickles: all files of the model.
        folder: where to write `model.safetensors`, or its shards and their index.

    Raises:
        AssetError: a file is damaged or holds more than tensors.
    """
    seen: set[tuple[int, int]] = set()
    places: dict[str, str] = {}
    size = 0
    for number, path in enumerate(pickles, 1):
        many = f"model-{number:05d}-of-{len(pickles):05d}.safetensors"
        name = many if len(pickles) > 1 else "model.safetensors"
        tensors: dict[str, torch.Tensor] = {}
        seen.clear()
        for key, tensor in read_pickle(path).items():
            if key.endswith(COMPUTED):
                continue
            # Tensors that share memory are written twice: safetensors has no place for sharing.
            memory = (tensor.data_ptr(), tensor.numel())
            tensors[key] = tensor.clone() if memory in seen else tensor.contiguous()
            seen.add(memory)
            places[key] = name
            size += tensor.numel() * tensor.element_size()
        save_file(tensors, folder / name, metadata={"format": "pt"})
    if len(pickles) > 1:
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def convert_folder(source: Path, target: Path) -> None:
    """Write a model's folder anew, with safetensors instead of pickles; it appears whole.

    Raises:
        AssetError: it has no `pytorch_model*.bin`, or one is damaged or holds more than tensors.
    """
    pickles = sorted(source.glob("pytorch_model*.bin"))
    if not pickles:
        raise AssetError(f"{source}: has no pytorch_model*.bin to convert")
    with atomic_folder(target) as beside:
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.endswith((".bin", ".bin.index.json")):
                shutil.copyfile(path, beside / path.name)
        convert_pickles(pickles, beside)


def read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in a pickle by their names; no code in it runs.

    Raises:
        AssetError: it is damaged, or holds more than tensors.
    """
    found: object
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files from before torch 1.6 cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise AssetError(f"{path}: damaged, or more than tensors: refused ({said})") from None
    if not isinstance(found, dict) or not all(isinstance(v, torch.Tensor) for v in found.values()):
        raise AssetError(f"{path}: holds no tensors by name")
    return found


def main() -> None:
    """Convert a folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    try:
        convert_folder(arguments.folder, arguments.out)
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
