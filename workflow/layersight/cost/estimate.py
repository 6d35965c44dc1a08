"""A prediction for one job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Prediction for one job.

    Attributes:
        seconds: wall time with the rule's own threads on the reference machine, or on one GPU.
        memory_mb: peak resident memory, in MB (10^6 bytes). On a GPU the weights, gradients,
            moments and activations lie there, and the host needs no more than this.
        disk_mb: size of the outputs that stay, in MB.
        work_mb: size of unfinished work (checkpoints) beside them while the job runs, in MB.
    """

    seconds: float
    memory_mb: float
    disk_mb: float = 0.0
    work_mb: float = 0.0
