"""At the start of a job: did it get the GPUs that it asked for?"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layersight.cluster.partitions import VARIABLE, ClusterError, Kind, read_site

DRIVER = Path("/proc/driver/nvidia")
"""There where a GPU's driver is loaded. Nodes that only pretend to have GPUs lack it."""
SHARE_OF_MEMORY = 0.9
"""A driver keeps a part of a GPU's memory for itself: a card of 40 GB shows 39.5 to 42.4."""


@dataclass(frozen=True)
class Device:
    """One GPU as the driver shows it: its name, and its memory in GB (10^9 bytes)."""

    name: str
    memory_gb: float


def requested(resources: Mapping[str, Any]) -> int:
    """Return how many GPUs a job asked for, as `gpu` or as `gres`."""
    if resources.get("gpu"):
        return int(resources["gpu"])
    gres = str(resources.get("gres") or "")
    return int(gres.rpartition(":")[2]) if gres.startswith("gpu:") else 0


def expected(resources: Mapping[str, Any]) -> Kind:
    """Return what the partition file says of the GPUs of the job's partition."""
    path = os.environ.get(VARIABLE)
    # What Slurm says of a job goes before what was asked for.
    partition = os.environ.get("SLURM_JOB_PARTITION") or resources.get("slurm_partition")
    if not path or not partition or "SLURM_JOB_ID" not in os.environ:
        return Kind()
    return read_site(Path(path)).kind(str(partition))


def seen() -> list[Device]:
    """Return the GPUs that torch sees."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [Device(gpu.name, gpu.total_memory / 1e9) for gpu in found]


def check_start(resources: Mapping[str, Any], device: str) -> None:
    """Stop a job that has not got what it asked for; looks for GPUs only where that can matter.

    With `compute.device: auto` a node without a driver computes on the CPU, as the study allows.

    Args:
        resources: of the job.
        device: `compute.device` of the study.

    Raises:
        ClusterError: too few GPUs, or others than the partition file says.
    """
    count = requested(resources)
    if count == 0 or device == "cpu":
        return
    in_slurm = "SLURM_JOB_ID" in os.environ
    if in_slurm:
        check_visible(count, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if device == "cuda" or (in_slurm and DRIVER.exists()):
        check_devices(count, seen(), expected(resources))


def check_process(processes: int, device: str) -> None:
    """Stop one of several training processes if they have not a GPU each.

    With `compute.device: auto` and no GPU at all every process computes on the CPU.

    Args:
        processes: how many train together on this node.
        device: `compute.device` of the study.

    Raises:
        ClusterError: too few GPUs, or others than the partition file says.
    """
    if device == "cpu":
        return
    devices = seen()
    if not devices and device == "auto":
        return
    if len(devices) < processes:
        raise ClusterError(
            f"compute.devices: training on {processes} devices, but torch sees "
            f"{len(devices)} GPU(s) on {_node()}: ask for fewer devices, or let the job "
            f"have them all (CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', '')})"
        )
    check_devices(processes, devices, expected({}))


def check_visible(count: int, visible: str | None) -> None:
    """Compare the GPUs that a job asked for with those that Slurm gave it.

    Args:
        count: GPUs asked for.
        visible: what CUDA_VISIBLE_DEVICES holds; None: Slurm does not set it here.

    Raises:
        ClusterError: they are fewer.
    """
    if visible is None:
        return
    given = [name for name in visible.split(",") if name.strip() not in ("", "NoDevFiles")]
    if len(given) < count:
        raise ClusterError(
            f"{count} GPU(s) asked for, but Slurm gave this job {len(given)} "
            f"(CUDA_VISIBLE_DEVICES={visible}) on {_node()}: see gpus.request in the partition file"
        )


def check_devices(count: int, devices: Sequence[Device], kind: Kind) -> None:
    """Compare the GPUs that a job asked for with those that the driver shows.

    Args:
        count: GPUs asked for.
        devices: what the driver shows.
        kind: what the partition file says of them.

    Raises:
        ClusterError: they are fewer, have another name or less memory.
    """
    if len(devices) < count:
        raise ClusterError(
            f"{count} GPU(s) asked for, but torch sees {len(devices)} on {_node()}: is the driver "
            "as new as torch's CUDA needs (nvidia-smi), and this the partition with GPUs?"
        )
    for gpu in devices[:count]:
        if kind.device is not None and kind.device.lower() not in gpu.name.lower():
            raise ClusterError(
                f"the GPU of {_node()} is a {gpu.name}, but the partition file says {kind.device} "
                "(gpus.kinds): correct the file, or ask for that model (gpus.name_model)"
            )
        if kind.memory_gb is not None and gpu.memory_gb < SHARE_OF_MEMORY * kind.memory_gb:
            raise ClusterError(
                f"the GPU of {_node()} ({gpu.name}) has {gpu.memory_gb:.0f} GB, but the partition "
                f"file says {kind.memory_gb:g} GB (gpus.kinds): correct the file"
            )


def _node() -> str:
    return os.environ.get("SLURMD_NODENAME") or os.uname().nodename
