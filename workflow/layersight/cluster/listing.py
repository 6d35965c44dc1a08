"""Every job of a coming run on a cluster, one line each: what it asks for, and where it goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from layersight.storage.space import size

HERE = "here"
_HEAD = (
    "job", "partition", "GPUs", "of one GPU", "threads", "memory", "time at most", "predicted",
    "disk",
)  # fmt: skip
_WORDS = 2
"""Columns that hold words; the others hold numbers and stand to the right."""


@dataclass(frozen=True)
class Line:
    """What one job asks for.

    Attributes:
        job: rule and wildcards.
        partition: where it goes; None: it runs where the command was given.
        gpus: how many.
        gpu_memory_mb: of one of them, by prediction, in MB.
        threads: how many.
        mem_mb: main memory, in MB.
        minutes: that it may take.
        predicted_s: that it will take, in seconds.
        disk_mb: of its outputs, in MB.
    """

    job: str
    partition: str | None
    gpus: int
    gpu_memory_mb: float
    threads: int
    mem_mb: float
    minutes: float
    predicted_s: float
    disk_mb: float


def render(lines: Iterable[Line]) -> str:
    """Return the table for the terminal; empty if there are no jobs."""
    table = [_HEAD, *(_cells(line) for line in lines)]
    if len(table) == 1:
        return ""
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < _WORDS else text.rjust(width)
            for column, (text, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
        for cells in table
    )


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.job,
        line.partition or HERE,
        str(line.gpus or ""),
        size(line.gpu_memory_mb) if line.gpus else "",
        str(line.threads),
        size(line.mem_mb),
        _clock(line.minutes * 60),
        _clock(line.predicted_s),
        size(line.disk_mb),
    )


def _clock(seconds: float) -> str:
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
