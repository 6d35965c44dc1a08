"""One run of the smoke study through everything that goes wrong on a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from tests.slurm import records
from tests.slurm.conftest import COMMAND, OnSlurm, on_slurm
from tests.slurm.records import Job
from tests.slurm.sandbox import Sandbox, wait_for
from tests.workflow.disturbing import Run, digests, left_behind, processes_in, script_of

pytestmark = pytest.mark.slow
PATIENCE_S = 3600.0
# The first attempt at one rule gets less memory than Snakemake alone takes.
TOO_LITTLE = ("--set-resources", "make_probes:mem_mb=120 if attempt == 1 else 2000")
TARGETS = ("all",)
LOGS = "slurm-logs"
KEEP_LOGS = ("--slurm-logdir", LOGS, "--slurm-keep-successful-logs")


@dataclass
class Disturbed:
    """A run that has ended, and the numbers of the jobs that something was done to."""

    checkout: OnSlurm
    hit: dict[str, int] = field(default_factory=dict)
    running_when_killed: list[str] = field(default_factory=list)
    output: str = ""
    codes: list[int] = field(default_factory=list)

    def jobs(self) -> dict[int, Job]:
        return {job.number: job for job in records.jobs(self.checkout.sandbox)}

    def ends(self, what: str) -> list[str]:
        """How the job that something was done to ended, as often as it did."""
        number = str(self.hit[what])
        ends = records.completed(self.checkout.sandbox)
        return [end["JobState"] for end in ends if end["JobId"] == number]

    def followers(self, what: str) -> list[Job]:
        """Later jobs of the same step."""
        jobs = self.jobs()
        hit = jobs[self.hit[what]]
        return [j for j in jobs.values() if j.comment == hit.comment and j.number > hit.number]


@pytest.fixture(scope="module")
def disturbed(cluster, tmp_path_factory) -> Disturbed:
    """The smoke study on Slurm, disturbed in seven ways."""
    checkout = on_slurm(cluster, tmp_path_factory.mktemp("faults") / "layersight")
    made = Disturbed(checkout)
    command = (*TARGETS, *COMMAND, *KEEP_LOGS, *TOO_LITTLE)
    with Run(checkout, *command) as run:
        _fail_node(made, run)
        _restart_controller(made, run)
        _cancel_by_hand(made, run)
        _disturb_training(made, run)
        _kill_driver(made, run)
        made.output += run.output
        # Its jobs go on without it; what follows must not wait for Snakemake's own.
        again = Run(checkout, *command)
        made.codes.append(again.process.wait(timeout=PATIENCE_S))
        made.output += again.output
    return made


def _cancel_by_hand(made: Disturbed, run: Run) -> None:
    job = _at_work(made, run, lambda job: job.rule == "align", "align")
    made.hit["cancelled"] = job.number
    made.checkout.sandbox.run("scancel", str(job.number))


def _disturb_training(made: Disturbed, run: Run) -> None:
    """Let one training job reach its time limit, and another one be preempted.

    Both are held until Slurm ends them, since the training of the smoke study takes seconds. Slurm
    wakes a held process before it asks it to end.
    """
    sandbox = made.checkout.sandbox
    late = _held(made, run, lambda job: job.comment.endswith("tune_wildcards_full_0"))
    made.hit["out of time"] = late.number
    in_the_way = _held(made, run, lambda job: "tune_wildcards_lora" in job.comment)
    made.hit["preempted"] = in_the_way.number
    sandbox.run("scontrol", "update", f"JobId={late.number}", "EndTime=now+1")
    _wait(run, lambda: made.jobs()[late.number].state == "TIMEOUT", "the time limit")
    _urgent(sandbox)
    _wait(run, lambda: made.jobs()[in_the_way.number].restarts == 1, "preemption")
    _wait(run, lambda: made.jobs()[in_the_way.number].state == "COMPLETED", "the preempted job")


def _urgent(sandbox: Sandbox) -> None:
    """Submit a job that needs the whole node with GPUs, at once."""
    sandbox.run(
        "sbatch",
        "-p",
        "urgent",
        "-n1",
        "--exclusive",
        "--mem=100",
        "-o",
        "/dev/null",
        "--wrap",
        "sleep 3",
    )


def _fail_node(made: Disturbed, run: Run) -> None:
    sandbox = made.checkout.sandbox
    job = _at_work(made, run, lambda job: job.rule == "make_images", "make_images")
    made.hit["node failed"] = job.number
    sandbox.fail_node(job.nodes)
    time.sleep(2)
    sandbox.repair_node(job.nodes)


def _restart_controller(made: Disturbed, run: Run) -> None:
    job = _at_work(made, run, lambda job: job.rule == "features", "features")
    made.hit["without controller"] = job.number
    made.checkout.sandbox.stop_controller()
    time.sleep(5)
    made.checkout.sandbox.start_controller()


def _kill_driver(made: Disturbed, run: Run) -> None:
    job = _at_work(made, run, lambda job: job.rule == "capture_activations", "activations")
    made.hit["without driver"] = job.number
    run.process.kill()
    run.process.wait()
    made.running_when_killed = [
        job.comment for job in made.jobs().values() if job.state == "RUNNING"
    ]


def _at_work(made: Disturbed, run: Run, wanted: Callable[[Job], bool], script: str) -> Job:
    """Wait for a job of which the script itself runs."""
    found: list[Job] = []

    def look() -> bool:
        found[:] = [
            job
            for job in records.jobs(made.checkout.sandbox)
            if job.state == "RUNNING"
            and job.number not in made.hit.values()
            and wanted(job)
            and _script_of_job(made.checkout.folder, job.number, script)
        ]
        return bool(found)

    _wait(run, look, f"{script} to disturb")
    return found[0]


def _held(made: Disturbed, run: Run, wanted: Callable[[Job], bool]) -> Job:
    """Wait for a training job at work, and stop its clock."""
    job = _at_work(made, run, wanted, "tune")
    process = _script_of_job(made.checkout.folder, job.number, "tune")
    assert process is not None
    process.suspend()
    return job


def _script_of_job(folder: Path, number: int, script: str) -> psutil.Process | None:
    for process in processes_in(folder):
        # It may end while it is looked at.
        with suppress(psutil.Error):
            if script_of(process) == script and (
                process.environ().get("SLURM_JOB_ID") == str(number)
            ):
                return process
    return None


def _wait(run: Run, seen: Callable[[], object], what: str) -> None:
    def look() -> object:
        assert run.process.poll() is None, run.output[-4000:]
        return seen()

    wait_for(look, what, PATIENCE_S, every=0.5)


def test_the_run_ends_complete(disturbed):
    assert disturbed.codes == [0], disturbed.output[-6000:]
    results = disturbed.checkout.folder / "results/smoke"
    assert (results / "report/index.html").is_file()
    assert left_behind(results) == []


def test_the_results_are_the_bytes_of_an_undisturbed_local_run(disturbed, smoke_run):
    made = digests(disturbed.checkout.folder / "results/smoke")
    assert made == digests(smoke_run.folder / "results/smoke")


def test_a_job_killed_for_memory_comes_back_with_more(disturbed):
    jobs = [job for job in disturbed.jobs().values() if job.rule == "make_probes"]
    assert [job.memory for job in jobs] == ["120M", "2000M"]
    assert jobs[0].state in ("FAILED", "OUT_OF_MEMORY") and jobs[1].state == "COMPLETED"
    log = (disturbed.checkout.folder / LOGS / f"rule_make_probes/{jobs[0].number}.log").read_text()
    assert "memory" in log


def test_a_job_cancelled_by_hand_comes_back(disturbed):
    assert disturbed.ends("cancelled") == ["CANCELLED"]
    assert [job.state for job in disturbed.followers("cancelled")] == ["COMPLETED"]


def test_a_training_job_that_reached_its_time_limit_comes_back_with_more_time(disturbed):
    assert disturbed.ends("out of time") == ["TIMEOUT"]
    # The job that comes back may be in the way as well.
    (again,) = disturbed.followers("out of time")
    assert (again.state, again.minutes) == ("COMPLETED", "00:20:00")


def test_a_preempted_training_job_waits_in_the_queue_again_and_ends_well(disturbed):
    assert disturbed.ends("preempted") == ["PREEMPTED", "COMPLETED"]
    assert disturbed.jobs()[disturbed.hit["preempted"]].restarts == 1
    assert disturbed.followers("preempted") == []


def test_a_job_whose_node_failed_runs_again(disturbed):
    assert disturbed.ends("node failed") == ["NODE_FAIL", "COMPLETED"]
    assert disturbed.followers("node failed") == []


def test_jobs_survive_a_controller_that_goes_away(disturbed):
    assert disturbed.ends("without controller") == ["COMPLETED"]


def test_jobs_go_on_without_the_driver_and_the_next_one_takes_their_results(disturbed):
    assert (
        disturbed.jobs()[disturbed.hit["without driver"]].comment in disturbed.running_when_killed
    )
    # It may have been in the way of the urgent job before.
    ends = disturbed.ends("without driver")
    assert ends[-1] == "COMPLETED" and set(ends[:-1]) <= {"PREEMPTED"}
    # It may have ended before the next run looked.
    for again in disturbed.followers("without driver"):
        assert again.state == "COMPLETED" and not computed(disturbed, again)


def test_no_step_that_had_finished_was_done_twice(disturbed):
    done: dict[str, int] = {}
    for job in disturbed.jobs().values():
        if job.comment and job.state == "COMPLETED":
            done[job.comment] = done.get(job.comment, 0) + computed(disturbed, job)
    assert len(done) > 45
    assert set(done.values()) == {1}, {name: count for name, count in done.items() if count != 1}


def computed(disturbed: Disturbed, job: Job) -> bool:
    """Whether a job has made its result, and not found it there."""
    (log,) = (disturbed.checkout.folder / LOGS).rglob(f"{job.number}.log")
    return "its result is kept" not in log.read_text(errors="replace")
