"""A step's outputs are whole or absent, whenever it is killed; what is done is not done again."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from layersight.provenance.attempt import Attempt, sweep_locks
from layersight.provenance.decide import decide
from layersight.provenance.digests import Digests
from layersight.provenance.lock import RunLock
from layersight.provenance.records import Step, read_record
from layersight.storage.atomic import atomic_file, atomic_folder

PARTED = {"model": ["data/m"], "probes": ["data/a", "data/b", "data/c"]}
FOLDERS = ["out/a", "out/b", "out/c"]
FILES = ["out/a/items", "out/b/items", "out/c/items"]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def results(tmp_path):
    results = tmp_path / "results"
    (results / "data").mkdir(parents=True)
    for name in ("a", "b", "c", "m"):
        (results / "data" / name).write_text(name)
    return results


def write_part(out: Path, text: str, *, folder: bool) -> None:
    """Make one part as the real steps do: a folder, or a file with its manifest beside it."""
    if folder:
        with atomic_folder(out) as beside:
            (beside / "layer=00").mkdir()
            (beside / "layer=00" / "part").write_text(text)
            (beside / "manifest.json").write_text(text)
    else:
        with atomic_file(out.with_name("manifest.json")) as beside:
            beside.write_text(text)
        with atomic_file(out) as beside:
            beside.write_text(text)


def text_of(step: Step, path: str) -> str:
    inputs = step.inputs_of(path).values()
    return " ".join(Path(item).read_text() for paths in inputs for item in paths)


def is_whole(step: Step, path: str) -> bool:
    out, text = Path(path), text_of(step, path)
    if out.is_dir():
        return sorted(file.read_text() for file in out.rglob("*") if file.is_file()) == [text] * 2
    return out.read_text() == text == out.with_name("manifest.json").read_text()


def run(step: Step, results: Path, shared: Path | None = None) -> list[str]:
    """Run a step as a script does; return what it made."""
    attempt = Attempt(step, results=results, shared=shared)
    attempt.lock()
    try:
        attempt.todo = attempt.restore()
        for path in attempt.todo:
            out = attempt.staged(path) if step.parts else Path(path)
            write_part(out, text_of(step, path), folder=not path.endswith("items"))
        if attempt.todo:
            attempt.work.mkdir(parents=True, exist_ok=True)
            (attempt.work / "checkpoint").write_text("half")
        attempt.finish()
        return attempt.todo
    finally:
        attempt.release()


def left_over(results: Path) -> list[str]:
    return sorted(
        str(path.relative_to(results))
        for path in results.rglob("*")
        if ".part-" in path.name or ".old-" in path.name or ".unfinished" in path.parts
    )


def remove_outputs(step: Step) -> None:
    """As Snakemake does before a job."""
    for path in map(Path, step.outputs):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def kill_at(monkeypatch, number: int) -> dict[str, int]:
    """Let the process die at the n-th change of the file system."""
    count = {"left": number}

    def dying(real):
        def call(*arguments, **more):
            count["left"] -= 1
            if count["left"] < 0:
                raise Killed
            return real(*arguments, **more)

        return call

    # After its death a process tidies nothing up: every later change fails, too.
    for name in ("replace", "link", "unlink", "rmdir", "mkdir"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    monkeypatch.setattr(shutil, "rmtree", dying(shutil.rmtree))
    return count


@pytest.mark.parametrize(
    ("outputs", "parts", "again"),
    [
        pytest.param(FOLDERS, "probes", True, id="folders in parts over other results"),
        pytest.param(FILES, "probes", False, id="files in parts"),
        pytest.param(FOLDERS, None, False, id="folders at once"),
        pytest.param(FILES, None, True, id="files at once over other results"),
    ],
)
def test_after_a_kill_at_any_point_the_next_run_ends_with_the_right_outputs(
    make_step, results, monkeypatch, outputs, parts, again
):
    # Nothing here is about a power cut, and waiting for the disk takes most of the time.
    monkeypatch.setattr(os, "fsync", lambda file: None)
    inputs = PARTED | {"probes": PARTED["probes"][:2]}
    step = make_step("dump base", inputs, outputs[:2], parts=parts)
    made_after = []
    if again:
        run(step, results)
        (results / "data" / "m").write_text("other")
    start = results.with_name("start")
    results.rename(start)
    for number in range(500):
        shutil.rmtree(results, ignore_errors=True)
        shutil.copytree(start, results)
        with pytest.MonkeyPatch.context() as patch:
            count = kill_at(patch, number)
            with contextlib.suppress(Killed):
                run(step, results)
        if count["left"] >= 0:
            break
        record = read_record(step.record)
        if record is not None and decide([step], Digests())[0].why == []:
            # The record comes last: what it describes is there.
            assert all(is_whole(step, path) for path in step.outputs)
        if number % 2:
            remove_outputs(step)
        made_after.append(len(run(step, results)))
        assert all(is_whole(step, path) for path in step.outputs), number
        assert left_over(results) == [], number
        assert decide([step], Digests())[0].why == []
    else:
        pytest.fail("the step never ended")
    assert number > 20
    if parts:
        # What was done before the kill is not done again.
        assert set(made_after) == {0, 1, 2}
        assert made_after == sorted(made_after, reverse=True)


def test_what_is_kept_is_put_back_without_work(make_step, results):
    step = make_step("dump base", PARTED, FOLDERS, parts="probes")
    assert run(step, results) == step.outputs
    inode = os.stat(Path(step.outputs[0]) / "layer=00" / "part").st_ino
    remove_outputs(step)
    assert run(step, results) == []
    assert os.stat(Path(step.outputs[0]) / "layer=00" / "part").st_ino == inode
    assert all(is_whole(step, path) for path in step.outputs)


def test_an_input_of_one_part_makes_only_that_part_again(make_step, results):
    step = make_step("dump base", PARTED, FOLDERS, parts="probes")
    run(step, results)
    (results / "data" / "b").write_text("changed")
    remove_outputs(step)
    assert run(step, results) == [step.outputs[1]]
    assert all(is_whole(step, path) for path in step.outputs)


def test_work_of_the_same_attempt_survives_and_other_work_goes(make_step, results):
    step = make_step("tune full 0", {"input": ["data/a"]}, ["models/full/seed-0"])
    attempt = Attempt(step, results=results, shared=None)
    attempt.lock()
    attempt.work.mkdir(parents=True)
    attempt.release()
    again = Attempt(step, results=results, shared=None)
    again.lock()
    again.restore()
    assert again.work.is_dir()
    again.release()
    (results / "data" / "a").write_text("changed")
    other = Attempt(step, results=results, shared=None)
    other.lock()
    assert other.work != again.work
    other.restore()
    assert not again.work.exists()
    other.release()


def test_the_store_between_studies_gives_a_result_to_another_study(make_step, results, tmp_path):
    shared = tmp_path / "shared"
    step = make_step("features", {"input": ["data/a"]}, ["features/image_features"])
    assert run(step, results, shared) == step.outputs
    shutil.rmtree(results)
    (results / "data").mkdir(parents=True)
    (results / "data" / "a").write_text("a")
    assert run(step, results, shared) == []
    assert all(is_whole(step, path) for path in step.outputs)
    assert decide([step], Digests())[0].why == []


def test_a_step_that_makes_too_little_leaves_no_record(make_step, results):
    step = make_step("dump base", PARTED, FOLDERS, parts="probes")
    attempt = Attempt(step, results=results, shared=None)
    attempt.lock()
    write_part(attempt.staged(step.outputs[0]), "half", folder=True)
    with pytest.raises(FileNotFoundError, match=r"dump base made no .*out/b"):
        attempt.finish()
    attempt.release()
    assert not step.record.exists()


def test_a_record_names_the_inputs_that_were_read_not_those_of_the_end(make_step, results):
    step = make_step("measure", {"input": ["data/a"]}, ["out/x"])
    attempt = Attempt(step, results=results, shared=None)
    attempt.lock()
    attempt.restore()
    write_part(Path(step.outputs[0]), "from the old input", folder=True)
    (results / "data" / "a").write_text("changed while the step ran")
    attempt.finish()
    attempt.release()
    assert decide([step], Digests())[0].why == [f"the content of {results}/data/a changed"]


def test_outputs_outside_of_the_results_are_recorded_and_not_kept(make_step, results, tmp_path):
    step = make_step("fetch", {"input": ["data/a"]}, ["../cache/package"])
    outside = [str(tmp_path / "cache" / "package")]
    step = Step(step.name, step.record, step.settings, step.code, step.inputs, outside)
    other = tmp_path / "cache" / ".package.part-1"
    other.mkdir(parents=True)
    run(step, results)
    assert decide([step], Digests())[0].why == []
    assert not (results / ".kept").exists()
    # Another study may be at work there.
    assert other.exists()


def _hold(results: Path, step: Step, ready, go) -> None:
    attempt = Attempt(step, results=results, shared=None)
    attempt.lock()
    ready.set()
    go.wait(10)
    attempt.restore()
    for path in step.outputs:
        write_part(attempt.staged(path), text_of(step, path), folder=True)
    attempt.finish()
    attempt.release()


def test_a_second_process_waits_and_takes_what_the_first_has_made(make_step, results, capfd):
    step = make_step("dump base", PARTED, FOLDERS, parts="probes")
    fork = multiprocessing.get_context("fork")
    ready, go = fork.Event(), fork.Event()
    first = fork.Process(target=_hold, args=(results, step, ready, go))
    first.start()
    assert ready.wait(10)
    second = fork.Process(target=run, args=(step, results))
    second.start()
    waiting = "dump base: a process of an earlier run is still making this; waiting"
    said, limit = "", time.monotonic() + 10
    while waiting not in said and time.monotonic() < limit:
        said += capfd.readouterr().err
        time.sleep(0.01)
    assert waiting in said
    before = second.is_alive()
    go.set()
    first.join(10)
    second.join(10)
    assert (before, first.exitcode, second.exitcode) == (True, 0, 0)
    assert all(is_whole(step, path) for path in step.outputs)
    assert left_over(results) == []


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(make_step, results, monkeypatch):
    step = make_step("dump base", PARTED, FOLDERS, parts="probes")
    attempt = Attempt(step, results=results, shared=None)
    real, root = fcntl.flock, results / ".unfinished" / "dump" / "base"
    calls = []

    def late(file, how):
        real(file, how)
        calls.append(file)
        if len(calls) == 1:
            # The process before has ended, and tidied up.
            shutil.rmtree(results / ".unfinished")

    monkeypatch.setattr(fcntl, "flock", late)
    attempt.lock()
    assert len(calls) == 2
    other = os.open(root / "lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):
        real(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)
    attempt.release()


def test_a_run_lock_whose_file_was_removed_meanwhile_is_taken_anew(results, monkeypatch):
    real, calls = fcntl.flock, []

    def late(file, how):
        real(file, how)
        calls.append(file)
        if len(calls) == 1:
            (results / ".lock").unlink()

    monkeypatch.setattr(fcntl, "flock", late)
    lock = RunLock(results, "smoke")
    lock.take()
    assert len(calls) == 2
    assert f"process {os.getpid()}" in (results / ".lock").read_text()
    lock.release()
    assert not (results / ".lock").exists()


def test_a_record_can_be_read_by_people(make_step, results):
    step = make_step("measure", {"input": ["data/a"]}, ["out/x"])
    run(step, results)
    data = json.loads(step.record.read_text())
    assert data["step"] == "measure"
    assert list(data["inputs"]["input"]) == [f"{results}/data/a"]


def test_a_run_removes_what_a_killed_one_left_and_nothing_of_a_living_process(tmp_path):
    ours = tmp_path / f".figures.part-{os.getpid()}-ab"
    dead = tmp_path / ".figures.part-999999999-ab"
    half = tmp_path / ".plan.json.part-999999999-cd"
    for folder in (ours, dead):
        folder.mkdir()
    half.write_text("{")
    lock = RunLock(tmp_path, "smoke")
    lock.take()
    assert sorted(path.name for path in tmp_path.iterdir()) == [ours.name, ".lock"]
    lock.release()
    assert [path.name for path in tmp_path.iterdir()] == [ours.name]


def test_a_step_killed_after_its_record_leaves_a_lock_alone_and_the_next_run_sweeps_it(
    make_step, results, monkeypatch
):
    step = make_step("dump base", PARTED, FOLDERS, parts="probes")
    root = results / ".unfinished/dump/base"
    real = shutil.rmtree

    def dying(path, *arguments, **more):
        if Path(path) == root:
            raise Killed
        real(path, *arguments, **more)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(shutil, "rmtree", dying)
        run(step, results)
    assert step.record.exists()
    assert [path.name for path in root.iterdir()] == ["lock"]
    sweep_locks(results)
    assert left_over(results) == []


def test_locks_that_are_held_or_lie_beside_unfinished_work_stay(make_step, results):
    held = Attempt(make_step("dump base", PARTED, FOLDERS), results=results, shared=None)
    held.lock()
    killed = Attempt(make_step("tune full", PARTED, FILES), results=results, shared=None)
    killed.lock()
    killed.work.mkdir()
    killed.release()
    before = left_over(results)
    sweep_locks(results)
    assert left_over(results) == before
    held.release()
    sweep_locks(results)
    assert left_over(results) == [path for path in before if "dump" not in path]
    sweep_locks(results / "nothing")
