"""Running one step: take what is kept, resume what is unfinished, record what is done."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from layersight.provenance.digests import Digests
from layersight.provenance.keep import Keep, remove
from layersight.provenance.lock import is_still_there
from layersight.provenance.records import Step, write_record
from layersight.storage.locks import lock_file
from layersight.storage.scratch import home_of

UNFINISHED = ".unfinished"
LOCK = "lock"
KEPT = ".kept"
DIGESTS = ".digests.json"
SHARED = "shared"


class Attempt:
    """One run of a step; see the methods in the order of their use.

    Args:
        step: what is to be made.
        results: folder of the study's results.
        shared: folder of the store between studies and users; None if the step is not shared.
    """

    def __init__(self, step: Step, *, results: Path, shared: Path | None) -> None:
        self.step = step
        self._digests = Digests(results / DIGESTS)
        home = home_of(Path(step.outputs[0]), results)
        self._kept = Keep(home / KEPT, copy=False, only_latest=True)
        self._shared = None if shared is None else Keep(shared, copy=True, only_latest=False)
        self._results = results
        self._read = {
            path: self._digests.of(path) for paths in step.inputs.values() for path in paths
        }
        self._keys = {path: step.key(path, self._digests) for path in step.outputs}
        self._root = home / UNFINISHED / step.name.replace(" ", "/")
        whole = hashlib.sha256(json.dumps(self._keys, sort_keys=True).encode()).hexdigest()
        self.work = self._root / f"work-{whole[:16]}"
        self.todo: list[str] = list(step.outputs)
        self._lock: int | None = None

    def lock(self) -> None:
        """Wait until no other process makes this step, for instance one of a killed run."""
        path = self._root / LOCK
        while self._lock is None:
            self._root.mkdir(parents=True, exist_ok=True)
            try:
                file = os.open(path, os.O_RDWR | os.O_CREAT, 0o664)
            except FileNotFoundError:
                # The process before has just tidied up.
                continue
            if lock_file(file) is False:
                print(
                    f"{self.step.name}: a process of an earlier run is still making this; waiting",
                    file=sys.stderr,
                    flush=True,
                )
                lock_file(file, wait=True)
            if is_still_there(file, path):
                self._lock = file
            else:
                os.close(file)

    def restore(self) -> list[str]:
        """Put outputs that are kept, shared or finished into place; return those still to make."""
        _sweep(self.step.record)
        # A process that is writing its own just now loses no more than what it remembers.
        _sweep(self._results / DIGESTS)
        for path in self.step.outputs:
            if self._inside(path):
                _sweep(Path(path))
        self._sweep_work()
        missing = []
        for path in self.step.outputs:
            out, key = Path(path), self._keys[path]
            found = self._inside(path) and self._kept.find(self._place(path), key, out)
            if not found and self._shared is not None:
                found = self._shared.find(self._name(path), key, out)
            if not found and not (self.step.parts and self.staged(path).exists()):
                missing.append(path)
        return missing

    def staged(self, path: str) -> Path:
        """Return where one part of a step is made; it moves to `path` when all are made."""
        return self._root / f"part-{self._keys[path]}" / Path(path).name

    def finish(self) -> None:
        """Move parts into place, keep and share what was made, and write the record."""
        for path in self.step.outputs:
            staged = self.staged(path)
            if self.step.parts and staged.exists():
                # Kept first: what Snakemake removes after a kill is not lost.
                self._keep(path, staged)
                _move(staged, Path(path))
        for path in self.step.outputs:
            self._keep(path, Path(path))
        # The lock goes last: a process that is killed after its record leaves no more than that.
        for inside in self._root.iterdir():
            if inside.name != LOCK:
                shutil.rmtree(inside, ignore_errors=True)
        write_record(self.step, self._digests, read=self._read)
        self._digests.save()
        shutil.rmtree(self._root, ignore_errors=True)
        _drop_empty(self._root.parent)

    def release(self) -> None:
        """Let the next process have the step."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _keep(self, path: str, made: Path) -> None:
        digest = self._digests.of(made)
        if digest is None:
            raise FileNotFoundError(f"{self.step.name} made no {path}")
        if self._inside(path):
            self._kept.put(self._place(path), self._keys[path], made, digest)
        if self._shared is not None:
            self._shared.put(self._name(path), self._keys[path], made, digest)

    def _inside(self, path: str) -> bool:
        """Whether an output belongs to the study; assets lie in a cache of their own."""
        return Path(path).is_relative_to(self._results)

    def _place(self, path: str) -> str:
        return str(Path(path).relative_to(self._results))

    def _name(self, path: str) -> str:
        """Name of an output in the shared store: its step and what it is, not its study."""
        return f"{self.step.name.split()[0]}/{Path(path).name}"

    def _sweep_work(self) -> None:
        """Drop unfinished work of other settings, code or inputs."""
        current = {self.work.name, LOCK} | {f"part-{key}" for key in self._keys.values()}
        for path in self._root.iterdir():
            if path.name not in current and path.name.startswith(("work-", "part-")):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith("part-"):
                for inside in path.iterdir():
                    _sweep(inside)


def sweep_locks(results: Path) -> None:
    """Remove the locks of processes that were killed when all else of their step was done.

    Such a step has its record, so that no process takes its lock again. Locks that a process holds,
    and those beside unfinished work, stay.
    """
    for path in sorted((results / UNFINISHED).rglob(LOCK)):
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            alone = lock_file(file) and is_still_there(file, path)
            if alone and len(list(path.parent.iterdir())) == 1:
                shutil.rmtree(path.parent, ignore_errors=True)
                _drop_empty(path.parent.parent)
        finally:
            os.close(file)


def _drop_empty(folder: Path) -> None:
    """Remove empty folders of unfinished work, from this one up to the one that holds them all."""
    while folder.name:
        try:
            folder.rmdir()
        except OSError:
            return
        if folder.name == UNFINISHED:
            return
        folder = folder.parent


def _sweep(out: Path) -> None:
    """Remove what a killed process left beside an output."""
    for name in (out.name, "manifest.json"):
        for kind in ("part", "old"):
            for path in out.parent.glob(f".{glob.escape(name)}.{kind}-*"):
                remove(path)


def _move(staged: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    remove(out)
    side = staged.with_name("manifest.json")
    if staged.is_file() and side.is_file():
        os.replace(side, out.with_name(side.name))
    os.replace(staged, out)
