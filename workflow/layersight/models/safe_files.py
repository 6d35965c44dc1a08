"""Weights on disk, checked before any library reads them: safetensors, whole, and never pickle."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from layersight.errors import AssetError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
# A pickle of protocol 2 and later, and the zip file in which torch wraps one.
_PICKLE_HEADS = (b"\x80", b"PK\x03\x04")


def check_model_folder(folder: Path) -> None:
    """Make sure that a folder has a configuration and readable safetensors.

    Raises:
        AssetError: the folder, its config.json or its weights are missing, or the weights are a
            pickle or a damaged file.
    """
    if not folder.is_dir():
        raise AssetError(f"{folder}: no such folder; expected a model as transformers saves it")
    if not (folder / "config.json").is_file():
        raise AssetError(f"{folder}: has no config.json; expected a model as transformers saves it")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise AssetError(
                f"{folder / pickles[0]}: is a pickle, which can run any code and is never loaded; "
                f"convert the weights to safetensors: python -m layersight.models.pickled {folder} "
                f"OUT"
            )
        raise AssetError(f"{folder}: has no *.safetensors")
    for path in weights:
        tensor_names(path)


def tensor_names(path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file, sorted; its header alone is read.

    Raises:
        AssetError: missing, not safetensors (a pickle, for one) or truncated.
    """
    if not path.is_file():
        raise AssetError(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(4)
    try:
        with safe_open(path, framework="pt") as opened:
            return sorted(opened.keys())
    except (SafetensorError, OSError, ValueError) as error:
        if any(head.startswith(pickle) for pickle in _PICKLE_HEADS):
            raise AssetError(
                f"{path}: is no safetensors file but a pickle, which can run any code and is never "
                f"loaded; convert the weights to safetensors"
            ) from None
        raise AssetError(f"{path}: is no whole safetensors file ({error}); copy it again") from None
