"""What Slurm itself recorded of the jobs of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.slurm.sandbox import Sandbox


@dataclass(frozen=True)
class Job:
    """One job as the controller shows it; `rule` is `rule_NAME` or `rule_NAME_wildcards_VALUES`."""

    number: int
    comment: str
    state: str
    partition: str
    nodes: str
    gpus_asked: str
    gpus_given: str
    memory: str
    cpus: int
    restarts: int
    minutes: str
    run: str

    @property
    def rule(self) -> str:
        return self.comment.removeprefix("rule_").partition("_wildcards_")[0]


def jobs(sandbox: Sandbox) -> list[Job]:
    """All jobs that the controller knows, in the order of their numbers."""
    # Without any job the command fails.
    shown = sandbox.attempt("scontrol", "-d", "show", "job", "-o")
    return sorted(
        (_job(line) for line in shown.stdout.splitlines() if line.startswith("JobId=")),
        key=lambda job: job.number,
    )


def completed(sandbox: Sandbox) -> list[dict[str, str]]:
    """Every end of a job, as the log of completed jobs has it: one line for each."""
    lines = sandbox.completed.read_text().splitlines()
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]


def _job(line: str) -> Job:
    found = dict(re.findall(r"([\w/:]+)=(?!\(null\))(\S*)", line))
    return Job(
        number=int(found["JobId"]),
        comment=found.get("Comment", ""),
        state=found["JobState"],
        partition=found["Partition"],
        nodes=found.get("NodeList", ""),
        gpus_asked=found.get("TresPerJob", found.get("TresPerNode", "")),
        gpus_given=found.get("JOB_GRES", ""),
        memory=found.get("MinMemoryNode", ""),
        cpus=int(found["NumCPUs"]),
        restarts=int(found["Restarts"]),
        minutes=found["TimeLimit"],
        run=found["JobName"],
    )
