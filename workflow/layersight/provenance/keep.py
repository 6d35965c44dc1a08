"""Finished outputs kept by what they were made from: for this study, and for everybody.

Snakemake removes an output before the job that makes it. A copy that shares its bytes on disk (a
hard link) stays here, so that a job whose inputs turn out the same ends at once with what it made
before. The shared store does the same between studies and users.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from layersight.provenance.digests import Digests
from layersight.storage.atomic import atomic_folder

CONTENT = "content"
_DIGEST = "digest"
_SIDE = "manifest.json"


class Keep:
    """A folder of finished outputs, found by their key.

    Args:
        folder: where they are kept.
        copy: copy what cannot be linked (another file system); otherwise it is not kept.
        only_latest: keep one state of an output; the one before goes.
    """

    def __init__(self, folder: Path, *, copy: bool, only_latest: bool) -> None:
        self.folder = Path(folder)
        self._copy = copy
        self._only_latest = only_latest

    def find(self, name: str, key: str, out: Path) -> bool:
        """Put a kept output into place; False if it is not kept, or no longer what it was.

        Args:
            name: of the output.
            key: of what it is made from.
            out: file or folder to make.
        """
        entry = self._entry(name, key)
        content = entry / CONTENT
        try:
            expected = (entry / _DIGEST).read_text(encoding="utf-8")
        except OSError:
            return False
        if Digests().of(content) != expected:
            # Changed on disk since: worth nothing.
            shutil.rmtree(entry, ignore_errors=True)
            return False
        try:
            if out.is_symlink() or out.is_dir() != content.is_dir():
                remove(out)
            out.parent.mkdir(parents=True, exist_ok=True)
            if content.is_dir():
                with atomic_folder(out) as beside:
                    beside.rmdir()
                    shutil.copytree(content, beside, copy_function=_link_or_copy)
            else:
                self._place_file(content, out)
                side = entry / _SIDE
                if side.is_file():
                    self._place_file(side, out.with_name(_SIDE))
        except OSError:
            return False
        return True

    def put(self, name: str, key: str, out: Path, digest: str) -> None:
        """Keep an output. Where that is not possible (no links, no space), it is not kept.

        Args:
            name: of the output.
            key: of what it was made from.
            out: the finished file or folder.
            digest: of its content.
        """
        entry = self._entry(name, key)
        if not self._has(entry, digest):
            self._add(entry, out, digest)
        if self._only_latest and self._has(entry, digest):
            for other in entry.parent.iterdir():
                if other != entry:
                    shutil.rmtree(other, ignore_errors=True)

    def _has(self, entry: Path, digest: str) -> bool:
        try:
            return (entry / _DIGEST).read_text(encoding="utf-8") == digest
        except OSError:
            return False

    def _add(self, entry: Path, out: Path, digest: str) -> None:
        place: Callable[[str, str], object] = _link_or_copy if self._copy else _link
        try:
            with atomic_folder(entry) as beside:
                if out.is_dir():
                    shutil.copytree(out, beside / CONTENT, copy_function=place)
                else:
                    place(str(out), str(beside / CONTENT))
                    side = out.with_name(_SIDE)
                    if side.is_file():
                        place(str(side), str(beside / _SIDE))
                (beside / _DIGEST).write_text(digest, encoding="utf-8")
        except OSError:
            return

    def _entry(self, name: str, key: str) -> Path:
        return self.folder / name / key

    def _place_file(self, source: Path, out: Path) -> None:
        beside = out.with_name(f".{out.name}.part-{os.getpid()}")
        beside.unlink(missing_ok=True)
        try:
            _link_or_copy(str(source), str(beside))
            os.replace(beside, out)
            # Two names of one file: the system leaves both where they are.
            beside.unlink(missing_ok=True)
        finally:
            beside.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(source: str, target: str) -> None:
    os.link(source, target)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
