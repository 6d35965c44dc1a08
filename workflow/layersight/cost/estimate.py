"""A prediction for one job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Prediction for one job.

    Attributes:
        seconds: wall time with the rule's own threads on the reference machine, or on one GPU.
        memory_mb: peak resident memory of all processes, in MB (10^6 bytes). On a GPU the weights,
            gradients, moments and activations lie there, and the host needs no more than this.
        disk_mb: size of the outputs that stay, in MB.
        work_mb: size of unfinished work (checkpoints) beside them while the job runs, in MB.
        device_mb: peak memory of one GPU, in MB, where a job has several; None: `memory_mb`.
    """

    seconds: float
    memory_mb: float
    disk_mb: float = 0.0
    work_mb: float = 0.0
    device_mb: float | None = None

    @property
    def on_one_gpu_mb(self) -> float:
        """Peak memory of one GPU, in MB."""
        return self.memory_mb if self.device_mb is None else self.device_mb
