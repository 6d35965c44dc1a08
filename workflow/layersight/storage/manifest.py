"""The record beside an expensive output: from what, by what and at what cost it was made."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from layersight.storage.atomic import atomic_file

PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy", "pyarrow", "snakemake")


class Stopwatch:
    """Measures wall time from its creation."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since creation."""
        return time.monotonic() - self._start


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def peak_memory_mb() -> float:
    """Return the largest resident size of this process so far, in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_manifest(
    path: Path,
    *,
    settings: Mapping[str, Any],
    seed: int | None,
    device: str,
    stopwatch: Stopwatch,
    inputs: Iterable[Path] = (),
    **facts: Any,
) -> None:
    """Write `manifest.json` atomically.

    Args:
        path: the manifest's file.
        settings: the slice of the study that the step read.
        seed: the derived seed, if the step draws random numbers.
        device: as torch names it.
        stopwatch: started when the step started.
        inputs: files whose digests are recorded.
        facts: anything else worth keeping, JSON types only.
    """
    record = {
        "settings": dict(settings),
        "seed": seed,
        "device": device,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        },
        "versions": versions(),
        "seconds": round(stopwatch.seconds, 3),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "inputs": {str(item): file_digest(item) for item in inputs},
        **facts,
    }
    with atomic_file(Path(path)) as beside:
        beside.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest back."""
    record: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return record
