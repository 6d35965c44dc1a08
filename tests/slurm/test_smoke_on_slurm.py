"""The smoke study from nothing to its report through a real Slurm, as Slurm itself recorded it."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from tests.slurm import records, sandbox
from tests.slurm.conftest import COMMAND, OnSlurm, on_slurm
from tests.slurm.records import Job
from tests.workflow.disturbing import digests, left_behind

from layersight.cost.rules import ON_GPU

THREADS = sandbox.MANY_CPUS - 1
"""Of one job: more than this machine has, fewer than one pretended node."""


@pytest.fixture(scope="module")
def made(cluster, tmp_path_factory) -> OnSlurm:
    """A checkout in which the smoke study has run on Slurm."""
    checkout = on_slurm(cluster, tmp_path_factory.mktemp("slurm") / "layersight")
    done = checkout.snakemake("--set-threads", f"make_concepts={THREADS}", *COMMAND)
    (checkout.folder / "run.log").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    return checkout


@pytest.fixture(scope="module")
def jobs(made) -> list[Job]:
    """The jobs of that run."""
    run = re.search(r"SLURM run ID: (\S+)", (made.folder / "run.log").read_text())
    assert run
    return [job for job in records.jobs(made.sandbox) if job.run == run[1]]


def asks_for_a_gpu(rule: str) -> bool:
    """By the list that the rules themselves use; those of the base model have another name."""
    return rule.replace("_base_", "_") in ON_GPU


def test_every_gpu_rule_ran_in_partition_a100_with_the_gpu_that_it_asked_for(jobs):
    ran = [job for job in jobs if asks_for_a_gpu(job.rule)]
    # The smoke study leaves out attention and token clouds: tests/workflow/test_places.py.
    assert {job.rule.replace("_base_", "_") for job in ran} == ON_GPU - {
        "attention",
        "token_clouds",
    }
    assert {(job.partition, job.nodes) for job in ran} == {("a100", "gpu1")}
    assert {(job.gpus_asked, job.gpus_given) for job in ran} == {("gres:gpu:1", "gpu:a100:1")}


def test_every_other_rule_ran_in_partition_cpu_without_a_gpu(jobs):
    ran = [job for job in jobs if not asks_for_a_gpu(job.rule)]
    assert len(ran) > 25
    assert {job.partition for job in ran} == {"cpu"}
    assert {job.nodes for job in ran} <= {"cpu1", "cpu2"}
    assert {(job.gpus_asked, job.gpus_given) for job in ran} == {("", "")}


def test_a_job_has_its_threads_whatever_the_login_node_has(jobs):
    cpus = {job.rule: job.cpus for job in jobs}
    assert cpus["make_concepts"] == THREADS > (os.cpu_count() or 1)
    assert cpus["tune"] == 1


def test_every_job_ran_once_and_slurm_saw_each_succeed(jobs, made):
    assert {(job.state, job.restarts) for job in jobs} == {("COMPLETED", 0)}
    stats = re.search(r"Job stats:\n(.*?)\n\n", (made.folder / "run.log").read_text(), re.DOTALL)
    assert stats
    planned = {
        name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", stats[1], re.MULTILINE)
    }
    total, _ = planned.pop("total"), planned.pop("all")
    assert Counter(job.rule for job in jobs) == planned and len(jobs) == total - 1
    # Other tests use the same cluster.
    ends = [end for end in records.completed(made.sandbox) if end["Name"] == jobs[0].run]
    assert len(ends) == len(jobs) and {end["JobState"] for end in ends} == {"COMPLETED"}


def test_the_results_are_the_bytes_of_a_local_run(made, smoke_run):
    results = made.folder / "results/smoke"
    assert (results / "report/index.html").is_file()
    assert digests(results) == digests(smoke_run.folder / "results/smoke")
    assert left_behind(results) == []


def test_a_second_run_submits_nothing(made, jobs):
    before = len(records.jobs(made.sandbox))
    again = made.snakemake(*COMMAND)
    assert again.returncode == 0 and "Nothing to be done" in again.stdout
    assert len(records.jobs(made.sandbox)) == before
