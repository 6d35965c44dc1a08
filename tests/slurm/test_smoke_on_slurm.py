"""The smoke study from nothing to its report through a real Slurm, as Slurm itself recorded it."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from tests.slurm import records
from tests.slurm.conftest import COMMAND, OnSlurm, on_slurm
from tests.slurm.records import Job
from tests.workflow.disturbing import digests, left_behind

ON_GPU = {
    "features", "align", "tune", "capture_activations", "capture_base_activations", "score_items",
    "score_base_items", "patching_sweep",
}  # fmt: skip
"""Rules of the smoke study that run a model."""


@pytest.fixture(scope="module")
def made(sandbox, tmp_path_factory) -> OnSlurm:
    """A checkout in which the smoke study has run on Slurm."""
    checkout = on_slurm(sandbox, tmp_path_factory.mktemp("slurm") / "layersight")
    done = checkout.snakemake(*COMMAND)
    (checkout.folder / "run.log").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    return checkout


@pytest.fixture(scope="module")
def jobs(made) -> list[Job]:
    """The jobs of that run."""
    run = re.search(r"SLURM run ID: (\S+)", (made.folder / "run.log").read_text())
    assert run
    return [job for job in records.jobs(made.sandbox) if job.run == run[1]]


def test_every_gpu_rule_ran_in_partition_a100_with_the_gpu_that_it_asked_for(jobs):
    ran = [job for job in jobs if job.rule in ON_GPU]
    assert {job.rule for job in ran} == ON_GPU
    assert {(job.partition, job.nodes) for job in ran} == {("a100", "gpu1")}
    assert {(job.gpus_asked, job.gpus_given) for job in ran} == {("gres:gpu:1", "gpu:a100:1")}


def test_every_other_rule_ran_in_partition_cpu_without_a_gpu(jobs):
    ran = [job for job in jobs if job.rule not in ON_GPU]
    assert len(ran) > 25
    assert {job.partition for job in ran} == {"cpu"}
    assert {job.nodes for job in ran} <= {"cpu1", "cpu2"}
    assert {(job.gpus_asked, job.gpus_given) for job in ran} == {("", "")}


def test_every_job_ran_once_and_slurm_saw_each_succeed(jobs, made):
    assert {(job.state, job.restarts) for job in jobs} == {("COMPLETED", 0)}
    stats = re.search(r"Job stats:\n(.*?)\n\n", (made.folder / "run.log").read_text(), re.DOTALL)
    assert stats
    planned = {
        name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", stats[1], re.MULTILINE)
    }
    total, _ = planned.pop("total"), planned.pop("all")
    assert Counter(job.rule for job in jobs) == planned and len(jobs) == total - 1
    assert {end["JobState"] for end in records.completed(made.sandbox)} == {"COMPLETED"}


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
