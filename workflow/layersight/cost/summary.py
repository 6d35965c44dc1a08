"""What a run will take in all: by stage, for the terminal, and against quotas and free space."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from layersight.cost.estimate import Cost
from layersight.cost.rules import STAGES, stage_of
from layersight.errors import StudyError, UserError
from layersight.storage.space import free_mb, size
from layersight.study import Study

Job = tuple[str, Cost, int, int, bool]
"""Rule, prediction, threads, GPUs asked for, and whether the executor is a cluster."""
CACHE_STAGE = "assets"
TOTAL = "total"


@dataclass(frozen=True)
class StageRow:
    """What the jobs of one stage, or of all, will take.

    Attributes:
        stage: its name, or `total`.
        jobs: how many.
        cpu_seconds: of cores, in jobs that have no GPU.
        gpu_seconds: of GPUs.
        disk_mb: outputs below `results/`, in MB.
        cache_mb: outputs in the cache that studies share, in MB.
        work_mb: unfinished work of the job that keeps most, in MB.
        memory_mb: peak of the largest job, in MB.
        largest: the rule of that job.
        gpu_memory: whether the largest job runs on a GPU, so that its memory is that of one GPU.
        longest_seconds: wall time of the longest job.
        threads: most threads of a job.
        memory_of: rule to the peak of its largest job, in MB.
    """

    stage: str
    jobs: int = 0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    disk_mb: float = 0.0
    cache_mb: float = 0.0
    work_mb: float = 0.0
    memory_mb: float = 0.0
    largest: str = ""
    gpu_memory: bool = False
    longest_seconds: float = 0.0
    threads: int = 0
    memory_of: dict[str, float] = field(default_factory=dict)


def summarise(jobs: Iterable[Job], study: Study) -> list[StageRow]:
    """Return one row for each stage that has jobs, in the order of the stages.

    A job that asks for a GPU counts GPU time where there surely is one: if `compute.device` is
    `cuda` or the executor is a cluster. Rules of no stage only name targets and cost nothing.

    Args:
        jobs: all jobs of a run.
        study: the study.
    """
    found: dict[str, list[StageRow]] = {stage: [] for stage in STAGES}
    for rule, cost, threads, gpus, remote in jobs:
        stage = stage_of(rule)
        if stage is None:
            continue
        on_gpu = gpus > 0 and (remote or study.compute.device == "cuda")
        memory = cost.on_one_gpu_mb if on_gpu else cost.memory_mb
        in_cache = stage == CACHE_STAGE
        found[stage].append(
            StageRow(
                stage,
                jobs=1,
                cpu_seconds=0.0 if on_gpu else cost.seconds * threads,
                gpu_seconds=cost.seconds * gpus if on_gpu else 0.0,
                disk_mb=0.0 if in_cache else cost.disk_mb,
                cache_mb=cost.disk_mb if in_cache else 0.0,
                work_mb=cost.work_mb,
                memory_mb=memory,
                largest=rule,
                gpu_memory=on_gpu,
                longest_seconds=cost.seconds,
                threads=threads,
                memory_of={rule: memory},
            )
        )
    return [_joined(stage, rows) for stage, rows in found.items() if rows]


def total(rows: Sequence[StageRow]) -> StageRow:
    """Return the row of all stages together."""
    return _joined(TOTAL, rows)


def _joined(name: str, rows: Sequence[StageRow]) -> StageRow:
    if not rows:
        return StageRow(name)
    largest = max(rows, key=lambda row: row.memory_mb)
    memory_of: dict[str, float] = {}
    for row in rows:
        for rule, peak in row.memory_of.items():
            memory_of[rule] = max(peak, memory_of.get(rule, 0.0))
    return StageRow(
        name,
        jobs=sum(row.jobs for row in rows),
        cpu_seconds=sum(row.cpu_seconds for row in rows),
        gpu_seconds=sum(row.gpu_seconds for row in rows),
        disk_mb=sum(row.disk_mb for row in rows),
        cache_mb=sum(row.cache_mb for row in rows),
        work_mb=max(row.work_mb for row in rows),
        memory_mb=largest.memory_mb,
        largest=largest.largest,
        gpu_memory=largest.gpu_memory,
        longest_seconds=max(row.longest_seconds for row in rows),
        threads=max(row.threads for row in rows),
        memory_of=memory_of,
    )


def wall_seconds(totals: StageRow, cores: int) -> float:
    """Return wall time on one machine: cores kept busy, and one GPU used by one job at a time."""
    busy = totals.cpu_seconds / max(1, cores) + totals.gpu_seconds
    return max(busy, totals.longest_seconds)


def render(rows: Sequence[StageRow], study: Study, cores: int | None = None) -> str:
    """Return the table for the terminal.

    Args:
        rows: of the stages, from `summarise`.
        study: the study.
        cores: of the machine that runs all jobs; None (a cluster) says nothing of wall time.
    """
    totals = total(rows)
    gpus = totals.gpu_seconds > 0
    head = [
        "stage",
        "jobs",
        "CPU min",
        *(["GPU h"] if gpus else []),
        "disk",
        "memory of the largest",
    ]
    table = [head]
    for row in [*rows, totals]:
        where = " on the GPU" if row.gpu_memory else ""
        table.append(
            [
                row.stage + (" (cache)" if row.stage == CACHE_STAGE else ""),
                str(row.jobs),
                _minutes(row.cpu_seconds),
                *([f"{row.gpu_seconds / 3600:.1f}"] if gpus else []),
                size(row.cache_mb if row.stage == CACHE_STAGE else row.disk_mb),
                f"{size(row.memory_mb)}{where} ({row.largest})" if row.largest else "",
            ]
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    lines = [
        "  ".join(
            # Words to the left, numbers to the right.
            text.ljust(width) if column in (0, len(head) - 1) else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]
    lines.insert(-1, "-" * max(len(line) for line in lines))
    peaks = " · ".join(f"{rule} {size(peak)}" for rule, peak in totals.memory_of.items())
    said = [f"Study {study.name}, predicted:", *lines]
    if peaks:
        said += textwrap.wrap(
            f"Peak memory by rule: {peaks}.", 100, subsequent_indent="  ", break_on_hyphens=False
        )
    if totals.cache_mb:
        said.append(f"The cache gets {size(totals.cache_mb)} besides; other studies share it.")
    if cores is not None:
        minutes = max(1, round(wall_seconds(totals, cores) / 60))
        said.append(
            f"About {minutes} min on {cores} {'core' if cores == 1 else 'cores'}"
            + (" and one GPU." if gpus else ", if they are as fast as the reference machine's.")
        )
    if gpus:
        said.append(
            "GPU time is that of A100s: training as fast as LLaVA-1.5's authors say, the rest an "
            "assumption."
        )
    return "\n".join(said)


def check_quota(study: Study, totals: StageRow) -> None:
    """Stop a study that would take more than its quota.

    Args:
        study: the study; `quota` sets the limits.
        totals: of all jobs that are to run.

    Raises:
        StudyError: names every limit that would be passed, what is predicted and what is allowed.
    """
    predicted = {
        "disk_gb": totals.disk_mb / 1e3,
        "gpu_hours": totals.gpu_seconds / 3600,
        "cpu_hours": totals.cpu_seconds / 3600,
    }
    units = {"disk_gb": "GB of disk", "gpu_hours": "GPU-hours", "cpu_hours": "CPU-hours"}
    passed = []
    for key, value in predicted.items():
        allowed = getattr(study.quota, key)
        if allowed is not None and value > allowed:
            passed.append(f"quota.{key}: {value:.3g} {units[key]} predicted, {allowed:g} allowed")
    if passed:
        raise StudyError(
            f"config/studies/{study.name}.yaml: {'; '.join(passed)}. Ask for less (fewer variants, "
            f"seeds, probes or steps) or raise the quota; nothing has been started"
        )


def check_space(folder: Path, disk_mb: float) -> None:
    """Stop a run whose outputs would not fit on the file system.

    Args:
        folder: where outputs go; need not exist yet.
        disk_mb: predicted size of what is still to be written, in MB.

    Raises:
        UserError: less space is free than predicted.
    """
    free = free_mb(folder)
    if free < disk_mb:
        raise UserError(
            f"{folder}: {size(free)} free on its file system, but {size(disk_mb)} are predicted; "
            f"free some space, run from a larger disk, or ask for less in the study (fewer "
            f"variants with method full, fewer probes); nothing has been started"
        )


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}" if seconds < 600 else f"{seconds / 60:.0f}"
