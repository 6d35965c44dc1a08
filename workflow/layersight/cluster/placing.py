"""Which partition a job goes to, and what it asks Slurm for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from layersight.cluster.partitions import ClusterError, Limits, Site

RESOURCES = ("slurm_partition", "mem_mb", "runtime", "gpu", "gpu_model", "gres", "nodes")
"""What `place` says of a job: resources of Snakemake and of its Slurm plugin."""


@dataclass(frozen=True)
class Ask:
    """What one job needs.

    Attributes:
        name: of the job, for messages.
        gpus: how many.
        gpu_memory_mb: of one GPU, in MB.
        mem_mb: main memory, in MB.
        runtime: in minutes.
        threads: how many.
        least_runtime: minutes that it can do with, where `runtime` has room for a slower machine;
            0: it needs `runtime`.
    """

    name: str
    gpus: int = 0
    gpu_memory_mb: float = 0.0
    mem_mb: float = 0.0
    runtime: float = 0.0
    threads: int = 1
    least_runtime: float = 0.0


def too_much(site: Site, partition: str, ask: Ask) -> list[str]:
    """Return what of a job is beyond a partition, in words; nothing if the job fits."""
    limits, kind = site.partitions[partition], site.kind(partition)
    room = [
        (ask.gpus, limits.max_gpu, "GPUs on one node"),
        (ask.mem_mb, limits.max_mem_mb, "MB of memory"),
        (ask.runtime, limits.minutes, "minutes"),
        (ask.threads, limits.threads, "threads"),
    ]
    if ask.gpus and kind.memory_gb is not None:
        room.append((ask.gpu_memory_mb / 1e3, kind.memory_gb, "GB of memory on one GPU"))
    return [
        f"{needed:.0f} of at most {most:.0f} {what}" for needed, most, what in room if needed > most
    ]


def choose(site: Site, ask: Ask) -> str | None:
    """Return the first partition that a job fits into; None if there is none.

    Jobs without a GPU stay out of partitions with GPUs if the file names any other.
    """
    return next((name for name in _tried(site, ask) if not too_much(site, name, ask)), None)


def place(site: Site | None, ask: Ask, first: Ask) -> dict[str, Any]:
    """Return the resources by which Snakemake's Slurm plugin submits a job.

    A retry asks for more, and so does a job that leaves room for a slower machine. Where that is
    more than any partition allows, it gets what is allowed.

    Args:
        site: the cluster; None: jobs run here, and GPUs are counted by `gpu`.
        ask: what this attempt needs.
        first: what the first attempt needed.

    Returns:
        `slurm_partition`, `mem_mb`, `runtime`, and `gpu`, `gpu_model`, `gres` and `nodes` where
        they apply (else None). A job that fits nowhere has no partition; see `check`.
    """
    partition = choose(site, ask) if site else None
    if site and partition is None:
        first = replace(first, runtime=first.least_runtime or first.runtime)
        fitting = [name for name in _tried(site, first) if not too_much(site, name, first)]
        if fitting:
            partition = max(fitting, key=lambda name: _size(site.partitions[name]))
            limits = site.partitions[partition]
            ask = replace(
                ask,
                mem_mb=min(ask.mem_mb, limits.max_mem_mb),
                runtime=min(ask.runtime, limits.minutes),
            )
    return {
        "slurm_partition": partition,
        "mem_mb": round(ask.mem_mb),
        "runtime": round(ask.runtime),
        **_gpus(site, partition, ask.gpus),
    }


def check(site: Site | None, asks: Iterable[tuple[Ask, str | None]]) -> None:
    """Stop a run that has a job without a place.

    Args:
        site: the cluster; None: no partition file was given.
        asks: for each job what it needs, and the partition that it would go to (None: none).

    Raises:
        ClusterError: names one job, what it needs and what there is; the others are counted.
    """
    homeless = {}
    for ask, partition in asks:
        if site is None:
            if ask.gpus:
                homeless[ask.name] = (
                    f"{ask.name} asks for {_count(ask.gpus)}, but no partition file says which "
                    "partition has GPUs: give its place as slurm-partition-config, as "
                    "profiles/slurm/config.yaml does"
                )
        elif partition is None or (partition in site.partitions and too_much(site, partition, ask)):
            homeless[ask.name] = _why(site, ask, partition)
    if homeless:
        more = f" (and so for {len(homeless) - 1} more)" if len(homeless) > 1 else ""
        raise ClusterError(f"{next(iter(homeless.values()))}{more}; nothing has been started")


def _tried(site: Site, ask: Ask) -> list[str]:
    with_gpus = [name for name, limits in site.partitions.items() if limits.max_gpu]
    if ask.gpus:
        return with_gpus
    return [name for name in site.partitions if name not in with_gpus] or with_gpus


def _size(limits: Limits) -> tuple[float, float]:
    return limits.max_mem_mb, limits.minutes


def _gpus(site: Site | None, partition: str | None, count: int) -> dict[str, Any]:
    asked: dict[str, Any] = {"gpu": count, "gpu_model": None, "gres": None, "nodes": None}
    if site is None:
        return asked
    models = site.partitions[partition].available_gpu_models if partition else None
    model = models[0] if models and site.gpus.name_model else None
    if count:
        if site.gpus.request == "gres":
            # The plugin takes one of the two only.
            asked |= {
                "gpu": None,
                "gres": ":".join(["gpu", *([model] if model else []), f"{count}"]),
            }
        else:
            asked["gpu_model"] = model
    if count > 1:
        # --gpus counts over all nodes of a job.
        asked["nodes"] = 1
    return asked


def _why(site: Site, ask: Ask, partition: str | None) -> str:
    tried = _tried(site, ask)
    if not tried:
        return (
            f"{site.path}: {ask.name} asks for {_count(ask.gpus)}, but no partition has any: give "
            "the one with GPUs max_gpu, the number of GPUs of one of its nodes"
        )
    # Larger partitions stand behind smaller ones.
    nearest = partition or min(reversed(tried), key=lambda name: len(too_much(site, name, ask)))
    what = (
        "does not fit into its partition" if partition else "fits into no partition; the nearest is"
    )
    return (
        f"{site.path}: {ask.name} {what} {nearest}, where it would take "
        f"{'; '.join(too_much(site, nearest, ask))}: add a larger partition, or ask for less in "
        "the study"
    )


def _count(gpus: int) -> str:
    return "1 GPU" if gpus == 1 else f"{gpus} GPUs"
