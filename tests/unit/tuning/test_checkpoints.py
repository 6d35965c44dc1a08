"""Training that is killed: nothing but the last interval is lost, and not a bit of the result."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.unit.tuning.killing import (
    Counter,
    Killed,
    contents,
    write_conversations,
    write_features,
)

from layersight import interruption
from layersight.errors import TrainingError
from layersight.models.vlm import VisionLanguageModel
from layersight.study import Study
from layersight.tuning import checkpoint
from layersight.tuning.runtime import Runtime
from layersight.tuning.stages import align, tune

STEPS = 7
ROOT = Path(__file__).parents[3]


def study_with(smoke: Study, steps: int) -> Study:
    data = smoke.model_dump(mode="json")
    for stage in ("align", "tuning"):
        data[stage] |= {"steps": steps, "batch_size": 3, "learning_rate": 1e-2}
    data["variants"] = {
        "full": {"method": "full"},
        "full-1-3": {"method": "full", "layers": [1, 3]},
        "lora": {"method": "lora", "options": {"r": 2, "lora_alpha": 4, "lora_dropout": 0.3}},
    }
    return Study.model_validate_json(json.dumps(data))


@pytest.fixture(scope="module")
def inputs(smoke, tiny_folder, feature_store, tmp_path_factory):
    """What a stage reads: the study and its files, the aligned backbone among them."""
    folder = tmp_path_factory.mktemp("inputs")
    found = SimpleNamespace(
        study=study_with(smoke, STEPS),
        language_model=tiny_folder,
        conversations=write_conversations(folder / "train.parquet", 3 * STEPS),
        features=write_features(feature_store, folder / "features.safetensors"),
        aligned=folder / "aligned",
    )
    run(found, "aligned", found.aligned)
    return found


@pytest.fixture
def steps(monkeypatch):
    """Counts training steps, and kills before a chosen one."""
    counter = Counter(VisionLanguageModel.loss)
    monkeypatch.setattr(VisionLanguageModel, "loss", counter)
    return counter


@pytest.fixture
def sigterm():
    """SIGTERM only asks for an end, as long as the test runs."""
    before = signal.getsignal(signal.SIGTERM)
    interruption.install()
    yield
    signal.signal(signal.SIGTERM, before)
    interruption.clear()


def run(inputs, what, out, work=None, seconds=0.0):
    files = {
        "language_model": inputs.language_model,
        "conversations": inputs.conversations,
        "features": inputs.features,
        "out": out,
        "work": work,
        "checkpoint_seconds": seconds,
    }
    if what == "aligned":
        align(inputs.study, **files)
    else:
        tune(inputs.study, variant=what, seed=0, aligned=inputs.aligned, **files)


def killed(inputs, steps, what, work, after, seconds=0.0):
    """Run a stage and kill it when it has done `after` more steps."""
    steps.die_after(after)
    with pytest.raises(Killed):
        run(inputs, what, work.parent / "never", work, seconds)
    assert not (work.parent / "never").exists()


@pytest.mark.parametrize("what", ["aligned", "full", "full-1-3", "lora"])
def test_training_killed_again_and_again_ends_in_the_bytes_of_undisturbed_training(
    inputs, steps, tmp_path, monkeypatch, what
):
    # Some tensors a file: more than one file, as a large model has.
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 2**13)
    run(inputs, what, tmp_path / "undisturbed")
    assert steps.calls == STEPS
    generator = random.Random(what)
    work = tmp_path / "work"
    done = 0
    while done < STEPS:
        after = generator.randint(0, 3)
        if done + after >= STEPS:
            break
        killed(inputs, steps, what, work, after)
        done += after
        # A run that draws random numbers of its own in between.
        torch.rand(3)
    run(inputs, what, tmp_path / "out", work)
    assert steps.calls == 2 * STEPS, "a step was repeated"
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
    assert len(contents(tmp_path / "out")) >= 2
    if what != "full-1-3":
        assert len(list(work.glob("checkpoint-*/tensors-*"))) > 1


def test_a_training_that_was_done_but_not_written_takes_no_step_again(inputs, steps, tmp_path):
    run(inputs, "lora", tmp_path / "first", tmp_path / "work")
    run(inputs, "lora", tmp_path / "second", tmp_path / "work")
    assert steps.calls == STEPS
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_a_kill_loses_at_most_one_interval(inputs, steps, tmp_path, monkeypatch, capsys):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(torch.optim.AdamW, "step", ticking(torch.optim.AdamW.step, clock))
    killed(inputs, steps, "full", tmp_path / "work", 5, seconds=30.0)
    found = [path.name for path in (tmp_path / "work").glob("*checkpoint*")]
    assert found == ["checkpoint-00000003"]
    run(inputs, "full", tmp_path / "out", tmp_path / "work", seconds=30.0)
    assert steps.calls == 5 + (STEPS - 3)
    assert "full/seed-0: goes on at step 3\n" in capsys.readouterr().err


def ticking(step, clock):
    def timed(*args, **kwargs):
        clock.now += 10.0
        return step(*args, **kwargs)

    return timed


def test_only_the_newest_checkpoint_stays_and_no_remains_of_a_killed_one(inputs, steps, tmp_path):
    work = tmp_path / "work"
    killed(inputs, steps, "aligned", work, 2)
    (work / ".checkpoint-00000003.part-1").mkdir()
    killed(inputs, steps, "aligned", work, 2)
    found = [path.name for path in work.iterdir() if "checkpoint" in path.name]
    assert found == ["checkpoint-00000004"]
    assert not any("pickle" in p.name or p.suffix in (".pt", ".pkl") for p in work.rglob("*"))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: truncate(folder / "tensors-0000.safetensors"),
        lambda folder: truncate(folder / "state.json"),
        lambda folder: (folder / "tensors-0000.safetensors").unlink(),
        lambda folder: (folder / "state.json").write_text("{}"),
    ],
    ids=["tensors cut short", "state cut short", "tensors missing", "state empty"],
)
def test_a_torn_checkpoint_is_passed_over_for_the_one_before(
    inputs, steps, tmp_path, monkeypatch, capsys, damage
):
    work = tmp_path / "work"
    run(inputs, "full", tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        # As if the kill came before the older ones were removed.
        patch.setattr(checkpoint.shutil, "rmtree", lambda *args, **kwargs: None)
        killed(inputs, steps, "full", work, 4)
    names = sorted(path.name for path in work.glob("checkpoint-*"))
    damage(work / "checkpoint-00000004")
    steps.calls = 0
    run(inputs, "full", tmp_path / "out", work)
    shown = capsys.readouterr().err
    assert names[-2:] == ["checkpoint-00000003", "checkpoint-00000004"]
    assert "checkpoint-00000004: passed over" in shown
    assert "goes on at step 3" in shown
    assert steps.calls == STEPS - 3
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_checkpoint_of_other_parameters_is_passed_over_before_anything_changes(
    inputs, steps, tmp_path, capsys
):
    work = tmp_path / "work"
    killed(inputs, steps, "full", work, 3)
    state = work / "checkpoint-00000003" / "state.json"
    state.write_text(state.read_text().replace('"what": "full/seed-0"', '"what": "lora/seed-0"'))
    run(inputs, "lora", tmp_path / "out", work)
    run(inputs, "lora", tmp_path / "undisturbed")
    assert "passed over, parameter/" in capsys.readouterr().err
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_checkpoint_of_another_run_is_refused(inputs, steps, tmp_path):
    work = tmp_path / "work"
    killed(inputs, steps, "full", work, 3)
    with pytest.raises(TrainingError, match="the subject is full/seed-0, here full-1-3/seed-0"):
        run(inputs, "full-1-3", tmp_path / "out", work)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_from_other_data_is_refused(inputs, steps, tmp_path):
    work = tmp_path / "work"
    killed(inputs, steps, "full", work, 3)
    other = SimpleNamespace(**vars(inputs))
    other.study = inputs.study.model_copy(update={"seed": 8})
    with pytest.raises(TrainingError, match="its data have the digest"):
        run(other, "full", tmp_path / "out", work)


def test_every_source_of_random_numbers_goes_on_where_it_was(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    runtime = Runtime(torch.device("cpu"))
    kept = checkpoint.Checkpoints(tmp_path, seconds=0.0, what="x", steps=3)

    def draw():
        normal = np.random.normal()  # leaves a second number in stock
        return [torch.rand(2).tolist(), random.random(), random.gauss(0.0, 1.0), normal]

    draw()
    kept.save(0, model, optimiser, [], runtime)
    first = draw()
    draw()
    assert kept.restore(model, optimiser, runtime) == (0, [])
    assert draw() == first


def test_sigterm_keeps_the_last_step_and_the_next_call_goes_on(
    inputs, steps, tmp_path, sigterm, capsys
):
    run(inputs, "lora", tmp_path / "undisturbed")
    counted = steps.function

    def asked_to_end(*args):
        if steps.calls == STEPS + 4:
            signal.raise_signal(signal.SIGTERM)
        return counted(*args)

    steps.function = asked_to_end
    message = r"^lora/seed-0: stopped on request at step 4; the same command goes on from here$"
    # No checkpoint is due for a long time: this one is made because of the request.
    with pytest.raises(interruption.Interrupted, match=message):
        run(inputs, "lora", tmp_path / "out", tmp_path / "work", seconds=1e9)
    assert not (tmp_path / "out").exists()
    interruption.clear()
    run(inputs, "lora", tmp_path / "out", tmp_path / "work", seconds=1e9)
    assert "lora/seed-0: goes on at step 4\n" in capsys.readouterr().err
    assert steps.calls == 2 * STEPS
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_sigterm_without_a_folder_for_unfinished_work_says_that_nothing_is_kept(
    inputs, tmp_path, sigterm
):
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(interruption.Interrupted, match="step 1; the same command starts anew"):
        run(inputs, "full", tmp_path / "out")


def test_a_second_sigterm_ends_the_process_at_once(sigterm):
    assert not interruption.requested()
    signal.raise_signal(signal.SIGTERM)
    assert interruption.requested()
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143


def test_without_install_nothing_changes():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not interruption.requested()


def test_the_log_holds_every_step_once_and_no_measured_time(inputs, steps, tmp_path):
    killed(inputs, steps, "full", tmp_path / "work", 4)
    run(inputs, "full", tmp_path / "out", tmp_path / "work")
    log = pq.read_table(tmp_path / "out" / "training.parquet")
    assert log.column("step").to_pylist() == list(range(STEPS))
    assert "seconds" not in log.column_names


SCRIPT = """
import sys
from pathlib import Path
from layersight.study import Study
from layersight.tuning.runtime import Runtime
from layersight.tuning.stages import tune
study, model, aligned, conversations, features, out, work = sys.argv[1:]
tune(
    Study.model_validate_json(Path(study).read_text()), variant="lora", seed=0,
    language_model=Path(model), aligned=Path(aligned), conversations=Path(conversations),
    features=Path(features), out=Path(out), work=Path(work), checkpoint_seconds=0.0,
)
"""


def test_a_process_killed_by_sigkill_loses_no_bit(inputs, steps, smoke, tmp_path):
    long = 16
    inputs = SimpleNamespace(**vars(inputs))
    inputs.study = study_with(smoke, long)
    inputs.conversations = write_conversations(tmp_path / "long.parquet", 3 * long)
    (tmp_path / "study.json").write_text(inputs.study.model_dump_json())
    work = tmp_path / "work"
    paths = [
        tmp_path / "study.json", inputs.language_model, inputs.aligned, inputs.conversations,
        inputs.features, tmp_path / "out", work,
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, paths)],
        cwd=ROOT / "workflow",
        stderr=subprocess.DEVNULL,
    )
    wanted = random.Random(5).randint(2, 6)
    try:
        while process.poll() is None:
            found = [int(path.name.split("-")[1]) for path in work.glob("checkpoint-*")]
            if max(found, default=0) >= wanted:
                break
            time.sleep(0.003)
        process.kill()
    finally:
        process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended by itself"
    assert not (tmp_path / "out").exists()
    run(inputs, "lora", tmp_path / "out", work)
    assert 0 < steps.calls <= long - wanted
    run(inputs, "lora", tmp_path / "undisturbed")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
