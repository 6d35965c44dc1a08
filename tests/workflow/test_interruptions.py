"""A run may be killed, told to stop, or run out of disk anywhere: the same command goes on."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from tests.workflow.disturbing import (
    STAGES,
    Run,
    copy_of_run,
    digests,
    kill_again_and_again,
    left_behind,
    wait_until_gone,
)

EVERY_STEP = ("--config", "study=smoke", "compute={checkpoint_seconds: 0}")


def check_kills(checkout, undisturbed, kills: int) -> None:
    """Kill a run `kills` times, let it finish, and compare every byte with an undisturbed run."""
    chance = random.Random(20)
    hits = kill_again_and_again(checkout, EVERY_STEP, kills, chance)
    last = checkout.snakemake("--cores", "2", *EVERY_STEP)
    wait_until_gone(checkout.folder)
    story = "\n".join(str(hit) for hit in hits)
    assert last.returncode == 0, f"{story}\n{last.stdout[-6000:]}"
    for told in (last.stdout, *(hit.log.read_text(errors="replace") for hit in hits)):
        assert "Traceback" not in told, f"{story}\n{told[-6000:]}"
    assert len(hits) == kills
    assert {stage for hit in hits for stage in hit.stages} == set(STAGES), story
    assert {hit.way for hit in hits} == {"group", "alone", "asked"}
    results = checkout.folder / "results/smoke"
    made, expected = digests(results), digests(undisturbed.folder / "results/smoke")
    assert made.keys() == expected.keys(), story
    assert [name for name in expected if made[name] != expected[name]] == [], story
    assert same_study(results, undisturbed.folder / "results/smoke")
    assert left_behind(results) == []


def same_study(one: Path, other: Path) -> bool:
    """Whether two resolved studies differ at most in the time between checkpoints."""
    studies = [yaml.safe_load((root / "study.yaml").read_text()) for root in (one, other)]
    for study in studies:
        study["compute"].pop("checkpoint_seconds")
    return studies[0] == studies[1]


def test_a_run_killed_in_every_stage_ends_with_the_same_bytes(fresh, smoke_run):
    check_kills(fresh, smoke_run, kills=len(STAGES))


@pytest.mark.slow
def test_a_run_killed_25_times_ends_with_the_same_bytes(fresh, smoke_run):
    check_kills(fresh, smoke_run, kills=25)


@pytest.mark.slow
def test_one_core_makes_the_same_bytes_as_two(fresh, smoke_run):
    done = fresh.snakemake("--cores", "1")
    assert done.returncode == 0, done.stdout[-6000:]
    made, expected = (digests(run.folder / "results/smoke") for run in (fresh, smoke_run))
    assert made.keys() == expected.keys()
    assert [name for name in expected if made[name] != expected[name]] == []


def test_a_second_run_of_the_study_is_refused_and_the_first_goes_on(fresh, smoke_run):
    with Run(fresh, "data", "--cores", "1", "--config", "study=smoke") as first:
        first.wait_for_script("make_")
        started = time.monotonic()
        second = fresh.snakemake("data", "--cores", "1")
        assert second.returncode != 0
        assert "is being run already, by process" in second.stdout
        assert "Traceback" not in second.stdout
        assert time.monotonic() - started < 60
        assert first.wait() == 0, first.output
    made = digests(fresh.folder / "results/smoke")
    expected = digests(smoke_run.folder / "results/smoke")
    assert len(made) > 8
    assert made == {name: expected[name] for name in made}


def test_a_disk_too_small_for_the_prediction_stops_the_run_before_its_first_job(fresh, mounted):
    mounted(fresh.folder / "results", "size=2m")
    done = fresh.snakemake("--cores", "2")
    assert done.returncode != 0
    assert "free on its file system, but" in done.stdout
    assert "nothing has been started" in done.stdout
    assert "Traceback" not in done.stdout
    assert not list((fresh.folder / "results").rglob("*.parquet"))
    assert left_behind(fresh.folder / "results/smoke") == []


def test_a_disk_that_fills_during_the_run_ends_a_job_with_a_message(fresh, mounted, smoke_run):
    results = fresh.folder / "results"
    mounted(results, "size=40m")
    with Run(fresh, "data", "--cores", "1", "--config", "study=smoke") as run:
        run.wait_for_script("make_")
        fill(results / "filler")
        assert run.wait() != 0
        assert "no space left on the device" in run.output, run.output
        assert "Traceback" not in run.output, run.output
    assert not list(results.rglob("*.parquet"))
    assert left_behind(results / "smoke", unfinished=True) == []
    (results / "filler").unlink()
    again = fresh.snakemake("data", "--cores", "1")
    assert again.returncode == 0, again.stdout[-4000:]
    made, expected = digests(results / "smoke"), digests(smoke_run.folder / "results/smoke")
    assert len(made) > 8
    assert made == {name: expected[name] for name in made}


def test_a_disk_that_fills_during_training_leaves_the_last_checkpoint(tmp_path, smoke_run, mounted):
    copy = copy_of_run(smoke_run, tmp_path / "layersight", mounted)
    results = copy.folder / "results"
    weights = results / "smoke/models/full/seed-0"
    size = sum(path.stat().st_size for path in weights.glob("*.safetensors"))
    command = training_anew(checkpoint_seconds=0)
    with Run(copy, *command) as run:
        run.wait_for_training()
        # Weights and two moments a parameter: room for one checkpoint, and for half of the next.
        fill(results / "filler", leaving=int(4.5 * size))
        assert run.wait() != 0
        assert "no space left on the device" in run.output, run.output
        assert "Traceback" not in run.output, run.output
    assert left_behind(results / "smoke", unfinished=True) == []
    (results / "filler").unlink()
    again = copy.snakemake(*command)
    assert again.returncode == 0, again.stdout[-4000:]
    assert "full/seed-0: goes on at step 1\n" in again.stdout
    assert left_behind(results / "smoke") == []


def test_a_results_folder_that_cannot_be_written_is_named(fresh, mounted):
    mounted(fresh.folder / "results", "ro,size=100m")
    done = fresh.snakemake("--cores", "2")
    assert done.returncode != 0
    assert "results/smoke: cannot be written (Read-only file system)" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_variant_that_diverges_is_left_out_and_comes_back(tmp_path, smoke_run):
    copy = copy_of_run(smoke_run, tmp_path / "layersight")
    report = copy.folder / "results/smoke/report/index.html"
    config = ("--config", "study=smoke", f"variants={wild(0.9)}")
    done = copy.snakemake("--cores", "2", *config)
    assert done.returncode != 0
    told = r"wild/seed-0: loss .* at step \d+ with learning rates [\d.]+ \(language model\)"
    assert re.search(told + r" and [\d.]+ \(connector\): training diverged", done.stdout)
    assert "Going on without what cannot be trained" in done.stdout
    assert "Traceback" not in done.stdout
    assert "wild" in report.read_text() and "training diverged" in report.read_text()
    assert not (copy.folder / "results/smoke/models/wild").exists()
    assert (copy.folder / "results/smoke/benchmarks/full/seed-0").is_dir()

    again = copy.snakemake("--cores", "2", *config)
    assert again.returncode == 0, again.stdout[-4000:]
    assert "Left out: wild/seed-0." in again.stdout
    assert "Nothing to be done" in again.stdout

    calmer = ("--config", "study=smoke", f"variants={wild(1e-3)}")
    planned = copy.snakemake("-n", "--cores", "2", *calmer)
    assert "Left out" not in planned.stdout
    assert "Tuning the variant wild, seed 0" in planned.stdout
    trained = copy.snakemake("results/smoke/models/wild/seed-0", "--cores", "1", *calmer)
    assert trained.returncode == 0, trained.stdout[-4000:]
    assert (copy.folder / "results/smoke/models/wild/seed-0/training.parquet").is_file()


def test_training_that_is_told_to_end_saves_and_goes_on(tmp_path, smoke_run):
    copy = copy_of_run(smoke_run, tmp_path / "layersight")
    command = training_anew(checkpoint_seconds=300)
    with Run(copy, *command) as run:
        run.wait_for_training()
        (process,) = run.scripts("tune")
        process.send_signal(signal.SIGTERM)
        assert run.wait() != 0
        assert "full/seed-0: stopped on request at step 1;" in run.output, run.output
        assert "exit status 143" in run.output, run.output
        assert "Traceback" not in run.output, run.output
    again = copy.snakemake(*command)
    assert again.returncode == 0, again.stdout[-4000:]
    assert "full/seed-0: goes on at step 1\n" in again.stdout


def training_anew(checkpoint_seconds: int) -> tuple[str, ...]:
    """A command that trains one variant of a finished study anew, and runs nothing else."""
    variants = "variants={full: {method: full, learning_rate: 2e-3}}"
    compute = f"compute={{checkpoint_seconds: {checkpoint_seconds}}}"
    target = "results/smoke/models/full/seed-0"
    return (target, "--cores", "1", "--config", "study=smoke", variants, compute)


def wild(rate: float) -> str:
    return f"{{wild: {{method: full, learning_rate: {rate}, connector_learning_rate: {rate}}}}}"


def fill(path: Path, leaving: int = 0) -> None:
    """Write a file until no more than `leaving` bytes are free."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with suppress(OSError):
                while shutil.disk_usage(path.parent).free - size >= leaving:
                    file.write(b"x" * size)
