"""The registry of tuning methods: one module a method, found by its name.

A method module defines

* ``Options``: a strict pydantic model of the method's own settings, and
* ``apply(model, options, layers)``: makes exactly the declared parameters of the language model
  learn and returns the model to train (torch is imported inside, so that checking a study stays
  quick). ``layers`` are indices of blocks in order, or None for the method's own all.

and may define

* ``tensors(options, linear, width)``: sizes of the tensors that learn in a block, to predict costs
  (without it a variant counts as full tuning),
* ``quantization(options, *, dtype, device)``: how transformers has to load the base model, and
* ``TRAINS_CONNECTOR = False``, if the connector stays as it is, and
* ``TRAINS = False`` in the place of ``apply``, if its subjects are taken from a checkpoint: its
  options are then a `layersight.study_released.Released`.

Adding a method is adding a module here; nothing else names the methods. Modules that begin with an
underscore hold what methods share.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def names() -> list[str]:
    """Return the names a study may use for ``method``, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def method(name: str) -> ModuleType:
    """Return the module of one method.

    Raises:
        KeyError: no such method; the message lists the known ones.
    """
    loaded = sys.modules.get(f"{__name__}.{name}")
    if loaded is not None and not name.startswith("_"):
        return loaded
    if name not in names():
        raise KeyError(f"unknown method {name!r}; known methods: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")


def trains(name: str) -> bool:
    """Return whether a method has a stage 2; the subjects of one without come from a checkpoint.

    Raises:
        KeyError: no such method.
    """
    return bool(getattr(method(name), "TRAINS", True))


def quantization(name: str, options: Any, *, dtype: torch.dtype, device: torch.device) -> Any:
    """Return transformers' quantisation configuration of a method's base model.

    Args:
        name: of the method.
        options: its options.
        dtype: type that the model computes in.
        device: where it will run.

    Returns:
        None if the base model is loaded as it is stored.

    Raises:
        TrainingError: it cannot be quantised here.
    """
    hook = getattr(method(name), "quantization", None)
    return None if hook is None else hook(options, dtype=dtype, device=device)
