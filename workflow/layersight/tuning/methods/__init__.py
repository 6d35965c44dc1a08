"""The registry of tuning methods: one module a method, found by its name.

A method module defines

* ``Options``: a strict pydantic model of the method's own settings, and
* ``apply(model, options, layers)``: makes exactly the declared parameters of the language model
  learn and returns the model to train (torch is imported inside, so that checking a study stays
  quick).

and may define

* ``tensors(options, linear, width)``: sizes of the tensors that learn in a block, to predict costs
  (without it a variant counts as full tuning), and
* ``TRAINS_CONNECTOR = False``, if the connector stays as it is.

Adding a method is adding a module here; nothing else names the methods.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def names() -> list[str]:
    """Return the names a study may use for ``method``, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def method(name: str) -> ModuleType:
    """Return the module of one method.

    Raises:
        KeyError: no such method; the message lists the known ones.
    """
    if name not in names():
        raise KeyError(f"unknown method {name!r}; known methods: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")
