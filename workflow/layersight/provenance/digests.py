"""Digests of what files and folders hold, computed once for each state of a file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from layersight.storage.atomic import atomic_file

ASIDE = frozenset({"manifest.json", "speed.parquet", ".snakemake_timestamp"})
"""Files that say how a result was made, not what it is."""
_TICK = 50_000_000
"""Nanoseconds within which two changes of a file may bear the same time stamp."""


class Digests:
    """SHA-256 of files and folders; remembers them by size, time stamps and inode.

    A file that was only touched is read once more and found to be the same. As in a version
    control system, a file whose size, modification time, change time and inode are the ones
    remembered counts as unchanged.

    Args:
        memory: file that remembers between runs; None remembers nothing.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._known: dict[str, list[object]] = {}
        self._changed = False
        if memory is not None:
            try:
                known = json.loads(memory.read_text(encoding="utf-8"))
                self._known = known if isinstance(known, dict) else {}
            except (OSError, ValueError):
                self._known = {}

    def of(self, path: Path | str) -> str | None:
        """Return the digest of a file, or of a folder's files and their names; None if missing.

        A folder's manifest is left out, as it holds times.
        """
        name = os.fspath(path)
        if not os.path.isdir(name):
            return self._file(name)
        lines = []
        for folder, folders, files in os.walk(name):
            folders.sort()
            for file in sorted(files):
                if file not in ASIDE:
                    inside = os.path.join(folder, file)
                    lines.append(f"{os.path.relpath(inside, name)}\0{self._file(inside)}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def save(self) -> None:
        """Write what is remembered, if the folder of the memory exists."""
        if self._memory is None or not self._changed or not self._memory.parent.is_dir():
            return
        try:
            with atomic_file(self._memory) as beside:
                beside.write_text(json.dumps(self._known), encoding="utf-8")
            self._changed = False
        except OSError:
            # Only a memory: without it, files are read again.
            return

    def _file(self, name: str) -> str | None:
        try:
            state = os.stat(name)
        except OSError:
            return None
        seen = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
        known = self._known.get(name)
        if isinstance(known, list) and known[:-1] == seen:
            return str(known[-1])
        try:
            with open(name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > _TICK:
            self._known[name] = [*seen, digest]
            self._changed = True
        return digest
