"""Snakemake's question which jobs must run, answered by what results were made from.

Snakemake compares time stamps, and runs everything behind a job that runs. Here a job runs if its
settings, its code, the packages it imports or the content of its inputs differ from its record
(`layersight.provenance`). Snakemake offers no place for such a rule of its own, so that the one
method that holds the answer is extended. What is forced on the command line stays forced.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.jobs import Reason
from snakemake.settings.types import ExecMode

from layersight.errors import UserError
from layersight.provenance.attempt import DIGESTS
from layersight.provenance.code import CodeIndex
from layersight.provenance.decide import Verdict, decide
from layersight.provenance.digests import Digests
from layersight.provenance.records import Step
from layersight.provenance.steps import describe, step_name

_METHOD = "update_needrun"
_FOLLOWING = "LAYERSIGHT_FOLLOWING"
_SNAKEMAKES_OWN = getattr(DAG, f"_{_METHOD}_of_snakemake", None) or getattr(DAG, _METHOD)


class Why(Reason):
    """Our reasons in the place of Snakemake's."""

    __slots__ = ("texts",)

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self.texts = list(texts)
        # Any flag of Snakemake's makes the reason count; what is shown is ours.
        self.forced = True

    def __str__(self) -> str:
        return "; ".join(self.texts)


def install(
    *, results: Path, scripts: Path, index: CodeIndex, planned: Callable[[Any, list[Any]], None]
) -> None:
    """Decide by records from now on.

    Args:
        results: folder of the study's results.
        scripts: folder of the scripts.
        index: of the library.
        planned: called once with Snakemake's DAG and the jobs that will run.
    """
    told = False

    async def update_needrun(dag: Any, create_inventory: bool = False) -> None:
        nonlocal told
        await _SNAKEMAKES_OWN(dag, create_inventory)
        if dag.workflow.exec_mode != ExecMode.DEFAULT:
            return
        digests = Digests(results / DIGESTS)
        try:
            _revise(dag, results, scripts, index, digests)
            if create_inventory and not told:
                told = True
                order = [job for level in dag.toposorted() for job in level]
                planned(dag, [job for job in order if dag.needrun(job) and not job.is_norun])
        except UserError as error:
            raise WorkflowError(str(error)) from None
        digests.save()

    setattr(DAG, f"_{_METHOD}_of_snakemake", _SNAKEMAKES_OWN)
    setattr(DAG, _METHOD, update_needrun)


def _revise(dag: Any, results: Path, scripts: Path, index: CodeIndex, digests: Digests) -> None:
    levels = [[job for job in level if not dag.finished(job)] for level in dag.toposorted()]
    real = [job for level in levels for job in level if not job.is_norun and job.output]
    steps = [_step(job, results, scripts, index) for job in real]
    verdicts = decide(steps, digests, wanted=_wanted(dag, real))
    running = set()
    for job, verdict in zip(real, verdicts, strict=True):
        if _forced(dag, job):
            verdict.why.append("forced on the command line")
        if verdict.why:
            running.add(job)
            dag._reason[job] = Why(verdict.why)
        else:
            dag._reason.pop(job, None)
    running |= _made_for_forced(dag, real, verdicts, running)
    for level in levels:
        for job in level:
            # A rule that only names targets is shown as run if something below it runs.
            if job.is_norun and any(other in running for other in dag._dependencies[job]):
                running.add(job)
    dag._needrun.clear()
    dag._needrun.update(running)
    dag._n_until_ready.clear()
    for job in running:
        dag._n_until_ready[job] = sum(1 for other in dag._dependencies[job] if other in running)
    dag._len = len(dag._finished | dag._needrun)


def _made_for_forced(
    dag: Any, jobs: Sequence[Any], verdicts: Sequence[Verdict], running: set[Any]
) -> set[Any]:
    """Jobs whose missing outputs a forced job reads."""
    missing = {job: verdict.missing for job, verdict in zip(jobs, verdicts, strict=True)}
    added: set[Any] = set()
    queue = list(running)
    while queue:
        job = queue.pop()
        for other, files in dag._dependencies[job].items():
            lost = missing.get(other, set()) & {str(file) for file in files}
            if lost and other not in running and other not in added:
                dag._reason[other] = Why([f"{min(lost)} is missing, and {job.rule.name} needs it"])
                added.add(other)
                queue.append(other)
    return added


def _step(job: Any, results: Path, scripts: Path, index: CodeIndex) -> Step:
    return describe(
        job.rule.name,
        dict(job.wildcards_dict),
        dict(job.params.items()),
        job.input._allitems(),
        list(job.output),
        results=results,
        scripts=scripts,
        index=index,
    )


def _wanted(dag: Any, jobs: Sequence[Any]) -> frozenset[str]:
    """Outputs that are asked for: by name, by their rule, or by a rule that only names targets."""
    wanted = {str(file) for file in dag.targetfiles}
    for job in jobs:
        if job.rule in dag.targetrules:
            wanted |= {str(file) for file in job.output}
    for job in dag.targetjobs:
        if job.is_norun:
            wanted |= {str(file) for file in job.input}
    return frozenset(wanted)


def _forced(dag: Any, job: Any) -> bool:
    settings = dag.workflow.dag_settings
    if job.rule in dag.forcerules or settings.forceall:
        return True
    asked = {os.path.normpath(file) for file in settings.forcerun}
    if settings.forcetargets:
        asked |= {str(file) for file in dag.targetfiles}
        if job.rule in dag.targetrules:
            return True
    return not asked.isdisjoint(str(file) for file in job.output)


def line(dag: Any, job: Any) -> str:
    """Return one line on why a job runs."""
    return f"{step_name(job.rule.name, job.wildcards_dict)}: {dag.reason(job)}"


def write_reasons(dag: Any, jobs: Sequence[Any]) -> None:
    """Write one line a job to the file that `LAYERSIGHT_WHY` names, if it names one."""
    path = os.environ.get("LAYERSIGHT_WHY")
    if path:
        Path(path).write_text("".join(f"{line(dag, job)}\n" for job in jobs), encoding="utf-8")


def is_following() -> bool:
    """Whether this run goes on after another one whose lock it works under."""
    return bool(os.environ.get(_FOLLOWING))


def follow() -> None:
    """Give the command of this run once more."""
    command = [sys.executable, "-m", "snakemake", *sys.argv[1:]]
    subprocess.run(command, env={**os.environ, _FOLLOWING: "1"}, check=False)


def say(text: str) -> None:
    """Print to where Snakemake prints."""
    print(text, file=sys.stderr, flush=True)
