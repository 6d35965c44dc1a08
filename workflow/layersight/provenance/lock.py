"""One run of a study at a time; a killed run leaves no lock behind."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from layersight.errors import UserError
from layersight.provenance.keep import remove
from layersight.storage.locks import lock_file

LOCK = ".lock"


class RunLock:
    """A lock that the system gives back when its process ends, however it ends.

    Args:
        results: folder of the study's results.
        study: its name, for the message.
    """

    def __init__(self, results: Path, study: str) -> None:
        self._path = Path(results) / LOCK
        self._study = study
        self._file: int | None = None

    def take(self) -> None:
        """Take the lock, or say who has it.

        Raises:
            UserError: another process runs this study, or its results cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o664)
        except OSError as error:
            raise UserError(
                f"{self._path.parent}: cannot be written ({error.strerror}): give yourself the "
                "right to write there, or run from another folder; nothing has been started"
            ) from None
        if lock_file(file) is False:
            holder = os.read(file, 200).decode(errors="replace").strip()
            os.close(file)
            raise UserError(
                f"{self._path.parent}: the study {self._study} is being run already, by {holder}: "
                "wait for it, or stop it; nothing has been started here"
            )
        if not is_still_there(file, self._path):
            # Another run ended in between, and took the file away with it.
            os.close(file)
            self.take()
            return
        self._file = file
        for path in self._path.parent.glob(".*.part-*"):
            if not _is_being_written(path):
                remove(path)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        os.ftruncate(self._file, 0)
        os.pwrite(
            self._file,
            f"process {os.getpid()} on {socket.gethostname()} since {started}".encode(),
            0,
        )

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None


def _is_being_written(path: Path) -> bool:
    """Whether the process that a half-written file is named after lives, on this machine."""
    writer = path.name.rpartition(".part-")[2].split("-")[0]
    return writer.isdigit() and Path("/proc", writer).exists()


def is_still_there(file: int, path: Path) -> bool:
    """Whether an open file is the one that has this name: a lock on another one locks nothing."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
