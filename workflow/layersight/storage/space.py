"""Space on a file system."""

from __future__ import annotations

import shutil
from pathlib import Path


def free_mb(folder: Path) -> float:
    """Return the free space where a folder is, or will be, in MB (10^6 bytes)."""
    there = Path(folder).absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free / 1e6


def size(mb: float) -> str:
    """Return a size for people."""
    if mb >= 1e6:
        return f"{mb / 1e6:.1f} TB"
    if mb >= 1e3:
        return f"{mb / 1e3:.1f} GB"
    return f"{mb:.0f} MB" if mb >= 1 or mb == 0 else "< 1 MB"
