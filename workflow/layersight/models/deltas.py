"""What a variant keeps: the adapter, or the tensors that changed; and the connector."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from layersight.errors import DataError
from layersight.models.connectors import Connector

ADAPTER = "adapter"
TENSORS = "language_model.safetensors"
CONNECTOR = "connector.safetensors"


def save_connector(connector: Connector, folder: Path) -> None:
    """Write the connector into `folder`."""
    save_file(
        {name: t.contiguous() for name, t in connector.state_dict().items()}, folder / CONNECTOR
    )


def load_connector(folder: Path) -> Connector:
    """Read a connector; its widths come from its weights.

    Raises:
        DataError: missing or not a connector.
    """
    path = folder / CONNECTOR
    try:
        tensors = load_file(path)
        connector = Connector(tensors["mean"].shape[0], tensors["second.bias"].shape[0])
        connector.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable connector ({error})") from None
    return connector


def save_delta(language_model: nn.Module, folder: Path) -> None:
    """Write what tuning changed: PEFT adapter weights, or every parameter that learned."""
    # Imported only where an adapter is at hand: PEFT takes seconds to import.
    if hasattr(language_model, "peft_config"):
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
        DataError: the delta does not fit this base model.
    """
    if (folder / ADAPTER).is_dir():
        from peft import PeftModel

        return PeftModel.from_pretrained(language_model, folder / ADAPTER)
    path = folder / TENSORS
    if not path.is_file():
        return language_model
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: not a readable delta ({error})") from None
    parameters = dict(language_model.named_parameters())
    unknown = sorted(set(tensors) - set(parameters))
    if unknown:
        raise DataError(f"{path}: the base model has no parameter {unknown[0]!r}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            if parameters[name].shape != tensor.shape:
                raise DataError(
                    f"{path}: {name} has the shape {tuple(tensor.shape)}, the base model's "
                    f"{tuple(parameters[name].shape)}"
                )
            parameters[name].copy_(tensor)
    return language_model
