"""What a variant keeps: the adapter, or the tensors that changed; connector, vision encoder."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from layersight.errors import DataError
from layersight.models.blocks import unwrapped
from layersight.models.connectors import Connector, make_connector
from layersight.models.safe_files import tensor_names
from layersight.models.vision_tower import VisionTower
from layersight.storage.manifest import read_manifest

ADAPTER = "adapter"
TENSORS = "language_model.safetensors"
CONNECTOR = "connector.safetensors"
VISION = "vision_encoder.safetensors"
FEATURES = "features.safetensors"
"""Image features of a subject's own vision encoder."""


def save_connector(connector: Connector, folder: Path) -> None:
    """Write the connector into `folder`: its tensors, and in the file's header what it is."""
    what = {
        "kind": connector.kind,
        "channels": connector.channels,
        "width": connector.width,
        "settings": connector.settings,
    }
    save_file(
        {name: t.contiguous() for name, t in connector.state_dict().items()},
        folder / CONNECTOR,
        metadata={"connector": json.dumps(what, sort_keys=True)},
    )


def load_connector(folder: Path) -> Connector:
    """Read a connector; its kind and widths come from the file.

    A file whose header names no kind has an `mlp2x_gelu`, and its widths are those of its weights.

    Raises:
        DataError: missing or not a connector.
    """
    path = folder / CONNECTOR
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("connector")
        if header is None:
            connector = Connector(tensors["mean"].shape[0], tensors["second.bias"].shape[0])
        else:
            what = json.loads(header)
            with torch.random.fork_rng(devices=[]):
                connector = make_connector(
                    what["kind"], what["channels"], what["width"], **what["settings"]
                )
        connector.load_state_dict(tensors)
    except KeyError as error:
        raise DataError(f"{path}: not a connector: has no tensor {error}") from None
    except (OSError, SafetensorError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a readable connector ({error})") from None
    return connector


def save_delta(language_model: nn.Module, folder: Path) -> None:
    """Write what tuning changed: PEFT adapter weights, or every parameter that learned."""
    # Imported only where an adapter is at hand: PEFT takes seconds to import.
    if hasattr(language_model, "peft_config"):
        with _portable(language_model):
            cast(Any, language_model).save_pretrained(folder / ADAPTER, safe_serialization=True)
        return
    changed = {
        name: parameter.detach().contiguous()
        for name, parameter in language_model.named_parameters()
        if parameter.requires_grad
    }
    if changed:
        save_file(changed, folder / TENSORS)


def apply_delta(language_model: nn.Module, folder: Path) -> nn.Module:
    """Put a saved delta onto a freshly loaded base model and return the tuned model.

    Raises:
        DataError: the delta does not fit this base model, or is missing although the manifest
            says that the language model learned.
        AssetError: the adapter's weights are a pickle or damaged.
    """
    if (folder / ADAPTER).is_dir():
        return _with_adapter(language_model, folder / ADAPTER)
    path = folder / TENSORS
    if not path.is_file():
        _check_nothing_learned(folder)
        return language_model
    _put(path, language_model, "the base model")
    return language_model


def save_vision(tower: VisionTower, folder: Path) -> None:
    """Write the tensors of the vision encoder that learned, under the encoder's names.

    If nothing of it learns, nothing is written.
    """
    learned = {name: p.detach().contiguous() for name, p in tower.learning().items()}
    if learned:
        save_file(learned, folder / VISION)


def has_vision(folder: Path) -> bool:
    """Return whether the vision encoder learned in a stage's folder.

    Raises:
        DataError: its tensors are missing although the manifest says that it learned.
    """
    if (folder / VISION).is_file():
        return True
    learned = _learned(folder, "trainable_vision")
    if learned:
        raise DataError(
            f"{folder}: has no {VISION}, but its manifest says that {learned} parameters of the "
            f"vision encoder learned; delete the folder and rerun"
        )
    return False


def apply_vision(tower: VisionTower, folder: Path) -> VisionTower:
    """Put the saved tensors onto the study's vision encoder; without any it stays as it is.

    Raises:
        DataError: the tensors do not fit this encoder, or are missing although the manifest says
            that it learned.
    """
    if has_vision(folder):
        _put(folder / VISION, tower.encoder, "the vision encoder")
    return tower


def reads_text_only(folder: Path) -> bool:
    """Return whether a stage's folder holds a language model alone, without a connector.

    Raises:
        DataError: its manifest is not readable.
    """
    return bool(_of_manifest(folder, "reads") == "text")


def _put(path: Path, model: nn.Module, whose: str) -> None:
    """Read a file of tensors and put them into the parameters of the same names."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: not a readable delta ({error})") from None
    parameters = dict(model.named_parameters())
    unknown = sorted(set(tensors) - set(parameters))
    if unknown:
        raise DataError(f"{path}: {whose} has no parameter {unknown[0]!r}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            if parameters[name].shape != tensor.shape:
                raise DataError(
                    f"{path}: {name} has the shape {tuple(tensor.shape)}, {whose}'s "
                    f"{tuple(parameters[name].shape)}"
                )
            parameters[name].copy_(tensor)


@contextmanager
def _portable(language_model: nn.Module) -> Iterator[None]:
    """Let PEFT write the same bytes for the same adapter: no path of this machine, sets in order.

    PEFT takes the base model's folder from the model where its own configuration names none.
    """
    base = unwrapped(language_model)
    for config in cast(Any, language_model).peft_config.values():
        config.base_model_name_or_path = None
        for name, value in vars(config).items():
            if isinstance(value, set):
                setattr(config, name, sorted(value))
    kept = base.name_or_path, base.config.name_or_path
    base.name_or_path = base.config.name_or_path = ""
    try:
        yield
    finally:
        base.name_or_path, base.config.name_or_path = kept


def _with_adapter(language_model: nn.Module, folder: Path) -> nn.Module:
    from peft import PeftModel, get_peft_model_state_dict

    from layersight.adapters import register_all

    register_all()
    if not (folder / "adapter_config.json").is_file():
        raise DataError(f"{folder}: has no adapter_config.json; expected an adapter as PEFT saves")
    path = folder / "adapter_model.safetensors"
    if not path.is_file():  # PEFT would go on to look for a pickle
        raise DataError(f"{path}: no such file; expected an adapter as PEFT saves, in safetensors")
    stored = set(tensor_names(path))
    try:
        with warnings.catch_warnings():
            # Missing tensors, of which PEFT warns, are refused below.
            warnings.simplefilter("ignore", UserWarning)
            model = PeftModel.from_pretrained(cast(Any, language_model), folder)
            wanted = set(get_peft_model_state_dict(model, save_embedding_layers=False))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise DataError(f"{folder}: the adapter does not fit the base model ({error})") from None
    missing, unknown = sorted(wanted - stored), sorted(stored - wanted)
    if missing:
        raise DataError(f"{path}: the tensor {missing[0]} is missing (one of {len(missing)})")
    # An adapter that targets the embeddings brings them along.
    unknown = [name for name in unknown if "embed" not in name and "lm_head" not in name]
    if unknown:
        raise DataError(f"{path}: the adapter has no place for the tensor {unknown[0]}")
    return model


def _check_nothing_learned(folder: Path) -> None:
    learned = _learned(folder, "trainable_language_model")
    if learned:
        raise DataError(
            f"{folder}: has neither {ADAPTER}/ nor {TENSORS}, but its manifest says that {learned} "
            f"parameters of the language model learned; delete the folder and rerun"
        )


def _learned(folder: Path, key: str) -> Any:
    """Return how many parameters of a part learned by the stage's manifest; 0 without one."""
    return _of_manifest(folder, key) or 0


def _of_manifest(folder: Path, key: str) -> Any:
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return None
    try:
        return read_manifest(manifest).get(key)
    except (ValueError, AttributeError) as error:
        raise DataError(f"{manifest}: not a readable manifest ({error})") from None
