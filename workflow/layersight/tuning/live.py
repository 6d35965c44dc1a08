"""Training as it goes: the record of every step, kept where people can watch it."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layersight.errors import TrainingError
from layersight.storage.tables import write_table
from layersight.tuning.log import LIVE, SPEED


@dataclass(frozen=True)
class Record:
    """One optimiser step, as the training log keeps it."""

    step: int
    loss: float
    learning_rate: float
    connector_learning_rate: float
    vision_learning_rate: float
    gradient_norm: float
    tokens: int
    answer_tokens: int


class Live:
    """Shows training as it goes: a Parquet file that grows, and TensorBoard where it is asked for.

    Args:
        subject: names the run.
        path: Parquet file, written anew from time to time; None writes none.
        tensorboard: folder of TensorBoard's events; None writes none.
        seconds: time between two writes.

    Raises:
        TrainingError: TensorBoard is asked for but not installed.
    """

    def __init__(
        self,
        subject: str,
        path: Path | None = None,
        tensorboard: Path | None = None,
        seconds: float = 10.0,
    ) -> None:
        self._subject = subject
        self._path = path
        self._seconds = seconds
        self._written = time.monotonic()
        self._last = time.monotonic()
        self.times: list[dict[str, Any]] = []
        self._board = None
        if tensorboard is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise TrainingError(
                    "compute.tensorboard: the package tensorboard is not installed; install it "
                    "with pip, or set compute.tensorboard to false"
                ) from None
            self._board = SummaryWriter(str(tensorboard))

    def start(self) -> None:
        """Begin to measure the first step."""
        self._last = time.monotonic()

    def add(self, records: Sequence[Record]) -> None:
        """Take in the step that has just ended, the last of the records."""
        now = time.monotonic()
        record, seconds = records[-1], now - self._last
        self._last = now
        self.times.append(
            {
                "subject": self._subject,
                "step": record.step,
                "seconds": seconds,
                "tokens_per_second": record.tokens / seconds if seconds > 0 else 0.0,
                "memory_mb": peak_memory_mb(),
            }
        )
        if self._board is not None:
            for name in ("loss", "learning_rate", "gradient_norm"):
                value = getattr(record, name)
                self._board.add_scalar(name, value, record.step)
        if self._path is not None and now - self._written >= self._seconds:
            self._written = now
            self._write(self._path, records)

    def close(self, records: Sequence[Record]) -> None:
        """Write what is left."""
        if self._board is not None:
            self._board.close()
        if self._path is not None:
            self._write(self._path, records)

    def _write(self, path: Path, records: Sequence[Record]) -> None:
        times = {row["step"]: row for row in self.times}
        unknown = dict.fromkeys(SPEED.names)
        shown = [
            {**unknown, **times.get(int(str(row["step"])), {}), **row}
            for row in rows(self._subject, records)
        ]
        write_table(path, shown, LIVE)


def rows(subject: str, records: Sequence[Record]) -> list[Mapping[str, object]]:
    """Return the rows of the training log."""
    return [{"subject": subject, **vars(record)} for record in records]


def peak_memory_mb() -> float:
    """Return the peak memory so far in MB: of the GPU if there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    # Linux counts in kibibytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
