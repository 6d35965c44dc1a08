"""The distributions that modules come from, and their versions."""

from __future__ import annotations

import re
from functools import cache
from importlib import metadata

_UNLIKE_THEIR_DISTRIBUTION = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "PyYAML"}


@cache
def version_of(module: str) -> tuple[str, str] | None:
    """Return the distribution that provides a top-level module, and its version."""
    known = _UNLIKE_THEIR_DISTRIBUTION.get(module)
    for name in (known,) if known else (module, module.replace("_", "-")):
        try:
            return name, _version(name)
        except metadata.PackageNotFoundError:
            continue
    for name in _distributions().get(module, []):
        return name, _version(name)
    return None


def _version(distribution: str) -> str:
    # One line of the file: parsing it whole takes most of the time that a study takes to load.
    text = metadata.distribution(distribution).read_text("METADATA") or ""
    found = re.search(r"^Version: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else metadata.version(distribution)


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())
