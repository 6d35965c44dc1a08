"""Runs that are disturbed: started, watched, killed, and compared by the bytes that they made."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PATIENCE_S = 400
STAGES = {
    "data": (
        "make_concepts",
        "make_images",
        "make_align",
        "make_instruct",
        "make_probes",
        "make_benchmarks",
    ),
    "models": ("make_random_language_model", "features", "align", "tune", "training_table"),
    "activations": ("activations",),
    "geometry": (
        "find_neighbours",
        "intrinsic_dimension",
        "overlap",
        "cross_modal",
        "change",
        "weight_change",
        "concatenate",
        "concentration",
    ),
    "patching": ("patching", "recovery"),
    "benchmarks": ("score_items", "score_tables"),
    "report": ("figures", "make_report", "make_run_page"),
}
WAYS = ("group", "alone", "group", "asked")
"""Whole session killed, Snakemake alone killed, Snakemake asked to end."""


@dataclass
class Hit:
    """One disturbance: how, which scripts were running at that moment, and where the run logged."""

    way: str
    scripts: list[str]
    delay_s: float
    log: Path

    @property
    def stages(self) -> set[str]:
        return {stage for stage, names in STAGES.items() if set(names) & set(self.scripts)}


class Run:
    """Snakemake in a session of its own, with its output in a file.

    Args:
        checkout: where it runs.
        arguments: of Snakemake.
    """

    def __init__(self, checkout: Any, *arguments: str) -> None:
        self._folder = checkout.folder
        self.log = checkout.folder.parent / f"run-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*checkout.program, *arguments],
                cwd=checkout.folder,
                env=checkout.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        for process in processes_in(self._folder):
            process.kill()
        self.process.wait()

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait(self) -> int:
        return self.process.wait(timeout=PATIENCE_S)

    def scripts(self, start: str = "") -> list[psutil.Process]:
        """Running scripts of this run's jobs whose name starts so."""
        return [
            process
            for process in processes_in(self._folder)
            if _session(process) == self.process.pid
            and (script_of(process) or "").startswith(start)
            and script_of(process)
        ]

    def wait_for(self, seen: Callable[[], object]) -> bool:
        """Wait until something is true; return False if the run ends before."""
        end = time.monotonic() + PATIENCE_S
        while not seen():
            if self.process.poll() is not None:
                return False
            assert time.monotonic() < end, self.output[-4000:]
            time.sleep(0.1)
        return True

    def wait_for_script(self, start: str) -> None:
        assert self.wait_for(lambda: self.scripts(start)), self.output[-4000:]

    def wait_for_training(self) -> None:
        """Wait until a training job can be told to end; its first step is seconds away."""
        lock = self._folder / "results/smoke/.unfinished/tune"
        assert self.wait_for(lambda: any("lock" in files for _, _, files in os.walk(lock))), (
            self.output[-4000:]
        )


def processes_in(folder: Path) -> list[psutil.Process]:
    """Processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def script_of(process: psutil.Process) -> str | None:
    """Name of the script of a job's own process: Snakemake runs `tmp<random>.<name>.py`."""
    try:
        arguments = process.cmdline()
    except psutil.Error:
        return None
    if len(arguments) < 2 or "python" not in Path(arguments[0]).name:
        return None
    parts = Path(arguments[-1]).name.split(".")
    return parts[1] if len(parts) == 3 and parts[2] == "py" else None


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def wait_until_gone(folder: Path) -> None:
    """Wait for processes that killed runs left behind."""
    end = time.monotonic() + PATIENCE_S
    while left := processes_in(folder):
        assert time.monotonic() < end, [process.cmdline() for process in left]
        time.sleep(0.2)


def kill_again_and_again(
    checkout: Any, arguments: Sequence[str], kills: int, chance: random.Random
) -> list[Hit]:
    """Start a run again and again, and disturb it while a job of a stage that is due is running.

    Each stage is due for its share of the kills. What is left over goes to the last stage, where
    only kills of the whole session end no job, so that the run never ends too early.
    """
    due = Counter({stage: kills // len(STAGES) for stage in STAGES})
    hits: list[Hit] = []
    while len(hits) < kills:
        wanted_now = [stage for stage in STAGES if due[stage] > 0 or stage == "report"]
        delay = chance.uniform(0.3, 6) if kills > len(STAGES) else chance.uniform(0.3, 3)
        run = Run(checkout, "--cores", "2", *arguments)
        if not _reach(run, wanted_now, delay):
            break  # The run has ended first: the caller sees it.
        names = [str(script_of(process)) for process in run.scripts()]
        hit = Hit(WAYS[len(hits) % len(WAYS)], names, delay, run.log)
        if "report" in hit.stages:
            hit.way = "group"
        _disturb(run, hit.way)
        hits.append(hit)
        due -= Counter(list(hit.stages))
    return hits


def _reach(run: Run, stages: Sequence[str], delay_s: float) -> bool:
    """Wait until a job of these stages has run for a while; False if the run ends before.

    A job that ends sooner halves that time for the next one.
    """
    while run.wait_for(lambda: _running(run, stages)):
        end = time.monotonic() + delay_s
        while _running(run, stages):
            if time.monotonic() >= end:
                return True
            time.sleep(0.1)
        delay_s /= 2
    return False


def _running(run: Run, stages: Sequence[str]) -> list[psutil.Process]:
    wanted = {name for stage in stages for name in STAGES[stage]}
    return [process for process in run.scripts() if script_of(process) in wanted]


def _disturb(run: Run, way: str) -> None:
    if way == "group":
        # A job has a group of its own in some shells: the session counts.
        session = run.process.pid
        for process in psutil.process_iter():
            if _session(process) == session:
                with suppress(psutil.Error):
                    process.kill()
    else:
        run.process.send_signal(signal.SIGKILL if way == "alone" else signal.SIGTERM)
    run.wait()


def copy_of_run(run: Any, folder: Path, mount: Callable[[Path, str], None] | None = None) -> Any:
    """Copy a checkout with all that has run in it.

    Args:
        run: the checkout.
        folder: of the copy.
        mount: mounts the copy's folder of results, before it is filled.
    """
    if mount is None:
        shutil.copytree(run.folder, folder, symlinks=True)
    else:
        hidden = shutil.ignore_patterns("results")
        shutil.copytree(run.folder, folder, symlinks=True, ignore=hidden)
        mount(folder / "results", "size=80m")
        shutil.copytree(run.folder / "results", folder / "results", dirs_exist_ok=True)
    return type(run)(folder)


def digests(results: Path) -> dict[str, str]:
    """SHA-256 of every file that must not depend on how a run went, by its place."""
    found = {}
    for path in sorted(results.rglob("*")):
        place = path.relative_to(results)
        names = place.parts
        if path.is_dir() or names[0] in ("logs", "timings") or any(n[0] == "." for n in names):
            continue
        # These say what was measured, which differs between two runs of the same bytes.
        if place.name in ("manifest.json", "speed.parquet"):
            continue
        if str(place) not in ("report/run.html", "study.yaml"):
            found[str(place)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def left_behind(results: Path, *, unfinished: bool = False) -> list[str]:
    """Half-written files and locks below a folder; `unfinished` work counts unless allowed."""
    return sorted(
        str(path.relative_to(results))
        for path in results.rglob("*")
        if ".part-" in path.name
        or ".old-" in path.name
        or path.name == ".lock"
        or (path.name == ".unfinished" and not unfinished)
    )
