"""Training on several devices: the same steps as on one, and nothing lost when it ends early."""

from __future__ import annotations

import signal
import threading
import time
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import tiny_model
from tests.unit.tuning.killing import contents, write_conversations, write_features

from layersight import interruption
from layersight.errors import DataError, DivergenceError, TrainingError, UserError
from layersight.interruption import Interrupted
from layersight.models.blocks import decoder_blocks
from layersight.tuning.launch import launch
from layersight.tuning.runtime import Runtime
from layersight.tuning.stages import align, tune

STEPS = 5
VARIANTS = {
    "full": {"method": "full"},
    "full-1-3": {"method": "full", "layers": [1, 3]},
    "lora": {"method": "lora", "options": {"r": 2, "lora_alpha": 4}},
    "mores": {"method": "mores"},
}


@pytest.fixture(scope="module")
def inputs(smoke, tiny_folder, feature_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    found = SimpleNamespace(
        smoke=smoke,
        language_model=tiny_folder,
        conversations=write_conversations(folder / "train.parquet", 4 * STEPS),
        features=write_features(feature_store, folder / "features.safetensors"),
        aligned=folder / "aligned",
    )
    start(found, "aligned", found.aligned)
    return found


def start(inputs, what, out, *, work=None, tuning=None, **compute):
    data = inputs.smoke.model_dump(mode="json")
    for stage in ("align", "tuning"):
        data[stage] |= {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-2, **(tuning or {})}
    data["variants"] = VARIANTS
    data["compute"] |= compute
    files = {
        "language_model": inputs.language_model,
        "conversations": inputs.conversations,
        "features": inputs.features,
        "out": out,
        "work": work,
        "checkpoint_seconds": 0.0,
    }
    if what == "aligned":
        launch(align, data, **files)
    else:
        launch(tune, data, variant=what, seed=0, aligned=inputs.aligned, **files)
    return SimpleNamespace(
        losses=pq.read_table(out / "training.parquet").column("loss").to_pylist(), folder=out
    )


def tensors(folder):
    return {
        f"{path.name}/{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("what", "parallel"),
    [
        ("full", "ddp"),
        ("lora", "fsdp"),
        slow("full", "fsdp"),
        slow("full-1-3", "ddp"),
        slow("full-1-3", "fsdp"),
        slow("lora", "ddp"),
        slow("mores", "ddp"),
        slow("mores", "fsdp"),
    ],
)
def test_two_processes_learn_as_one_does_with_the_same_batch(inputs, tmp_path, parallel, what):
    one = start(inputs, what, tmp_path / "one")
    two = start(inputs, what, tmp_path / "two", devices=2, parallel=parallel)
    assert two.losses == pytest.approx(one.losses, abs=1e-4)
    expected, found = tensors(one.folder), tensors(two.folder)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, atol=2e-3), name


@pytest.mark.parametrize("parallel", [slow("ddp"), "fsdp"])
def test_a_batch_without_any_picture_leaves_the_connector_alone_on_any_devices(
    inputs, tmp_path, parallel
):
    files = SimpleNamespace(**vars(inputs))
    # Without groups of like length some batches would mix; half of all rows make some that do not.
    files.conversations = write_conversations(
        tmp_path / "train.parquet", 4 * STEPS, text_only=range(2 * STEPS)
    )
    one = start(files, "full", tmp_path / "one", tuning={"group_by": "modality_length"})
    two = start(
        files, "full", tmp_path / "two", devices=2, parallel=parallel,
        tuning={"group_by": "modality_length"},
    )  # fmt: skip
    assert two.losses == pytest.approx(one.losses, abs=1e-4)


def test_parts_one_after_the_other_are_the_step_of_the_whole_batch(inputs, tmp_path):
    whole = start(inputs, "full", tmp_path / "whole")
    parts = start(inputs, "full", tmp_path / "parts", tuning={"accumulate": 4})
    both = start(inputs, "full", tmp_path / "both", tuning={"accumulate": 2}, devices=2)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-4)
    assert both.losses == pytest.approx(whole.losses, abs=1e-4)


def test_packed_rows_learn_as_padded_ones_do(inputs, tmp_path):
    padded = start(inputs, "full", tmp_path / "padded")
    packed = start(inputs, "full", tmp_path / "packed", tuning={"pack": 160})
    assert packed.losses == pytest.approx(padded.losses, abs=1e-4)


def test_blocks_computed_again_give_the_same_steps(inputs, tmp_path):
    kept = start(inputs, "full", tmp_path / "kept")
    again = start(inputs, "full", tmp_path / "again", tuning={"gradient_checkpointing": True})
    assert again.losses == pytest.approx(kept.losses, abs=1e-6)


@pytest.mark.parametrize("parallel", [slow("ddp"), "fsdp"])
def test_two_processes_told_to_end_go_on_where_they_were(inputs, tmp_path, parallel):
    undisturbed = start(inputs, "lora", tmp_path / "all", devices=2, parallel=parallel)
    work = tmp_path / "work"
    before = signal.getsignal(signal.SIGTERM)
    interruption.install()
    ender = threading.Thread(target=_end_after_a_step, args=(work,), daemon=True)
    ender.start()
    try:
        with pytest.raises(Interrupted, match=r"stopped on request at step \d"):
            start(inputs, "lora", tmp_path / "out", work=work, devices=2, parallel=parallel)
    finally:
        signal.signal(signal.SIGTERM, before)
        interruption.clear()
    assert not (tmp_path / "out").exists()
    assert {p.parent.name for p in work.rglob("checkpoint-*")} == {
        "process-0-of-2", "process-1-of-2",
    }  # fmt: skip
    resumed = start(inputs, "lora", tmp_path / "out", work=work, devices=2, parallel=parallel)
    assert resumed.losses == undisturbed.losses
    assert contents(resumed.folder) == contents(undisturbed.folder)


def _end_after_a_step(work):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if list(work.glob("process-0-of-2/checkpoint-*")):
            signal.raise_signal(signal.SIGTERM)
            return
        time.sleep(0.002)


def test_what_goes_wrong_in_the_processes_is_said_once_as_on_one_device(inputs, tmp_path):
    with pytest.raises(DivergenceError, match="training diverged") as caught:
        start(
            inputs,
            "full",
            tmp_path / "x",
            devices=2,
            tuning={"learning_rate": 0.99, "clip_norm": 1e6, "warmup": 0.0},
        )
    assert caught.value.step > 0
    other = SimpleNamespace(**vars(inputs))
    other.conversations = write_conversations(tmp_path / "few.parquet", 3)
    with pytest.raises(DataError, match="has 3 rows, full/seed-0 needs 20"):
        start(other, "full", tmp_path / "y", devices=2)
    assert not (tmp_path / "x").exists() and not (tmp_path / "y").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_processes_without_the_gpus_that_the_study_asks_for_say_so(inputs, tmp_path):
    with pytest.raises(UserError, match="training on 2 devices, but torch sees 0 GPU"):
        start(inputs, "full", tmp_path / "x", devices=2, device="cuda")


def test_half_precision_trains_float32_parameters(inputs, tmp_path):
    exact = start(inputs, "lora", tmp_path / "exact")
    half = start(inputs, "lora", tmp_path / "half", precision="bfloat16")
    assert half.losses == pytest.approx(exact.losses, abs=0.1)
    assert half.losses != exact.losses
    assert {tensor.dtype for tensor in tensors(half.folder).values()} == {torch.float32}


def test_half_precision_computes_in_it_and_keeps_gradients_in_float32(tiny_folder, answered):
    model = tiny_model(tiny_folder, 0).requires_grad_(True).train()
    runtime = Runtime(torch.device("cpu"), "bfloat16")
    runtime.place(model)
    seen = []
    linear = decoder_blocks(model.language_model)[1].mlp.down_proj
    linear.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    loss, _ = runtime.loss(answered)
    runtime.backward(loss)
    assert seen == [torch.bfloat16]
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_float16_without_a_gpu_is_refused():
    with pytest.raises(TrainingError, match="float16 training needs a GPU"):
        Runtime(torch.device("cpu"), "float16")
