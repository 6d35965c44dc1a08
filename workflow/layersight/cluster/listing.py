"""What the jobs of a run ask a cluster for, as a table for the terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from layersight.cluster.placing import Ask
from layersight.storage.space import size

HEAD = ("rule", "jobs", "GPUs", "threads", "memory", "time", "partition")


def listing(jobs: Iterable[tuple[str, Ask, str | None]]) -> str:
    """Return one line for all jobs of a rule that ask for as many GPUs in the same partition.

    Args:
        jobs: rule, what the first attempt asks for, and the partition that it goes to. Memory and
            time of a line are those of its largest job.
    """
    groups: dict[tuple[str, int, int, str], list[Ask]] = defaultdict(list)
    for rule, ask, partition in jobs:
        groups[rule, ask.gpus, ask.threads, partition or ""].append(ask)
    if not groups:
        return ""
    table = [HEAD]
    for (rule, gpus, threads, partition), asks in groups.items():
        memory = size(max(ask.mem_mb for ask in asks))
        time = _time(max(ask.runtime for ask in asks))
        table.append((rule, str(len(asks)), str(gpus or ""), str(threads), memory, time, partition))
    widths = [max(len(line[column]) for line in table) for column in range(len(HEAD))]
    lines = [
        "  ".join(
            text.ljust(width) if column in (0, len(HEAD) - 1) else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    return "\n".join(["What jobs ask for, at their first attempt:", *lines])


def _time(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes < 180 else f"{minutes / 60:.1f} h"
