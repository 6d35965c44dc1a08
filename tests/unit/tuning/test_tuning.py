"""What learns, what does not, and that training is the textbook's."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from tests.conftest import CHANNELS
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from layersight.errors import DataError, DivergenceError, TrainingError
from layersight.models.connectors import Connector
from layersight.models.deltas import apply_delta, load_connector, save_connector, save_delta
from layersight.models.language import load_language_model
from layersight.models.vlm import VisionLanguageModel
from layersight.storage.tables import read_table
from layersight.study import Optimisation
from layersight.tuning import methods
from layersight.tuning.batching import batch_order
from layersight.tuning.runtime import Runtime
from layersight.tuning.trainer import Rates, largest_loss, schedule, train
from layersight.tuning.weight_change import measure_weight_change, weight_change

SETTINGS = Optimisation(steps=4, batch_size=3, learning_rate=1e-2, warmup=0.25)


@pytest.fixture
def batches(answered):
    return [answered] * SETTINGS.steps


def prepared(folder, method, layers, options=None):
    torch.manual_seed(0)
    base, _ = load_language_model(folder, dtype=torch.float32)
    module = methods.method(method)
    blocks = None if layers is None else list(range(*layers))
    tuned = module.apply(base, module.Options(**(options or {})), blocks)
    return VisionLanguageModel(tuned, Connector(CHANNELS, 32))


def run(model, batches):
    return train(
        model,
        batches,
        SETTINGS,
        what="test",
        rates=Rates(1e-2, 1e-2),
        runtime=Runtime(torch.device("cpu")),
    )


def snapshot(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("layers", "learns"),
    [
        (None, lambda name: True),
        ((1, 3), lambda name: ".layers.1." in name or ".layers.2." in name),
    ],
)
def test_full_tuning_changes_the_declared_parameters_and_no_other_bit(
    tiny_folder, batches, layers, learns
):
    model = prepared(tiny_folder, "full", layers)
    before = snapshot(model.language_model)
    run(model, batches)
    for name, value in model.language_model.state_dict().items():
        assert torch.equal(before[name], value) == (not learns(name)), name


def test_lora_changes_adapters_of_the_declared_blocks_and_no_base_weight(tiny_folder, batches):
    model = prepared(tiny_folder, "lora", (1, 3), {"r": 2, "lora_alpha": 4})
    trainable = [n for n, p in model.language_model.named_parameters() if p.requires_grad]
    assert trainable and all("lora_" in name for name in trainable)
    assert {name.split(".layers.")[1].split(".")[0] for name in trainable} == {"1", "2"}
    # A and B of seven linear layers in two blocks: r (inputs + outputs) each.
    linears = 4 * 2 * (32 + 32) + 2 * 2 * (32 + 64) + 2 * (64 + 32)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 2 * linears + sum(
        p.numel() for p in model.connector.parameters()
    )
    before = snapshot(model.language_model)
    run(model, batches)
    for name, value in model.language_model.state_dict().items():
        if "lora_" not in name:
            assert torch.equal(before[name], value), name


@pytest.mark.parametrize(
    ("method", "layers", "options"),
    [
        ("full", None, {}),
        ("full", (1, 3), {}),
        ("lora", None, {"r": 2}),
        ("lora", (0, 2), {"r": 2}),
    ],
)
def test_a_saved_delta_gives_the_tuned_model_back_bit_for_bit(
    tiny_folder, batches, batch, tmp_path, method, layers, options
):
    model = prepared(tiny_folder, method, layers, options)
    run(model, batches)
    save_delta(model.language_model, tmp_path)
    save_connector(model.connector, tmp_path)
    fresh, _ = load_language_model(tiny_folder, dtype=torch.float32)
    loaded = VisionLanguageModel(apply_delta(fresh, tmp_path), load_connector(tmp_path)).eval()
    with torch.inference_mode():
        assert torch.equal(loaded.last_logits(batch), model.eval().last_logits(batch))


def test_a_delta_of_another_model_is_refused(tiny_folder, tmp_path):
    from safetensors.torch import save_file

    save_file({"model.layers.9.weight": torch.zeros(2)}, tmp_path / "language_model.safetensors")
    base, _ = load_language_model(tiny_folder, dtype=torch.float32)
    with pytest.raises(DataError, match="no parameter 'model.layers.9.weight'"):
        apply_delta(base, tmp_path)


def test_training_twice_gives_the_same_bits(tiny_folder, batches):
    first, second = (prepared(tiny_folder, "full", None) for _ in range(2))
    losses = [[record.loss for record in run(model, batches)] for model in (first, second)]
    assert losses[0] == losses[1]
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_loop_is_torchs_own_adamw_with_transformers_schedule(tiny_folder, batches):
    model = prepared(tiny_folder, "full", None)
    reference = prepared(tiny_folder, "full", None)
    reference.load_state_dict(model.state_dict())
    records = run(model, batches)
    optimiser = torch.optim.AdamW(reference.parameters(), lr=1e-2, weight_decay=0.0)
    rates = get_cosine_schedule_with_warmup(optimiser, 1, SETTINGS.steps)
    for record, made in zip(records, batches, strict=True):
        loss, _ = reference.loss(made)
        loss.backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimiser.step()
        rates.step()
        optimiser.zero_grad()
        assert record.loss == pytest.approx(loss.item(), rel=1e-4)


@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.5])
def test_the_schedule_is_transformers(warmup):
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    rates = get_cosine_schedule_with_warmup(optimiser, math.ceil(20 * warmup), 20)
    for step in range(20):
        assert schedule(step, 20, warmup) == pytest.approx(rates.get_last_lr()[0])
        optimiser.step()
        rates.step()


def test_a_loss_that_is_not_finite_stops_before_any_weight_changes(tiny_folder, batches):
    model = prepared(tiny_folder, "full", None)
    broken = [*batches]
    broken[2] = type(broken[2])(
        broken[2].input_ids,
        broken[2].attention_mask,
        broken[2].features * float("inf"),
        broken[2].roles,
        broken[2].labels,
    )
    shorter = prepared(tiny_folder, "full", None)
    with pytest.raises(DivergenceError, match=r"test: loss nan.*at step 2 with learning rates"):
        run(model, broken)
    with pytest.raises(IndexError):
        run(shorter, broken[:2])
    for name, value in shorter.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_gradient_that_is_not_finite_stops_before_any_weight_changes(tiny_folder, batches):
    model = prepared(tiny_folder, "full", None)
    before = snapshot(model)
    model.connector.second.bias.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(DivergenceError, match="gradient norm nan at step 0"):
        run(model, batches)
    for name, value in model.state_dict().items():
        assert torch.equal(before[name], value), name


def test_a_loss_of_three_times_guessing_is_divergence_and_names_step_and_rates(
    tiny_folder, batches
):
    model = prepared(tiny_folder, "full", None)
    vocabulary = model.language_model.config.vocab_size
    assert largest_loss(model) == pytest.approx(3 * math.log(vocabulary))
    with torch.no_grad():
        # Sure of itself and wrong: finite, and far worse than a uniform guess.
        model.language_model.get_output_embeddings().weight.mul_(1e4)
    before = snapshot(model)
    with pytest.raises(DivergenceError) as caught:
        train(
            model, batches, SETTINGS.model_copy(update={"warmup": 0.0}),
            what="full/seed-0", rates=Rates(2e-2, 1e-3), runtime=Runtime(torch.device("cpu")),
        )  # fmt: skip
    error = caught.value
    assert isinstance(error, TrainingError)
    assert (error.step, error.learning_rate, error.connector_learning_rate) == (0, 2e-2, 1e-3)
    for part in ("full/seed-0: loss ", "at step 0", "0.02 (language model)", "0.001 (connector)"):
        assert part in str(error)
    assert "lower the learning rates" in str(error)
    for name, value in model.state_dict().items():
        assert torch.equal(before[name], value), name


def test_a_learning_rate_that_is_far_too_high_ends_in_a_divergence_error(tiny_folder, batches):
    settings = SETTINGS.model_copy(update={"steps": 30, "warmup": 0.0, "clip_norm": 1e6})
    with pytest.raises(DivergenceError) as caught:
        train(
            prepared(tiny_folder, "full", None), [batches[0]] * 30, settings,
            what="test", rates=Rates(5.0, 5.0), runtime=Runtime(torch.device("cpu")),
        )  # fmt: skip
    assert 0 < caught.value.step < 30


def test_nothing_to_learn_is_refused(tiny_folder, batches):
    model = prepared(tiny_folder, "full", None).requires_grad_(False)
    with pytest.raises(TrainingError, match="no parameter learns"):
        run(model, batches)


def test_batches_hold_every_row_once_and_rows_of_similar_length():
    lengths = [10 + (i * 7) % 23 for i in range(64)]
    order = batch_order(lengths, 8, seed=1)
    assert sorted(row for batch in order for row in batch) == list(range(64))
    waste = sum(max(lengths[r] for r in b) * len(b) - sum(lengths[r] for r in b) for b in order)
    plain = sum(max(lengths[i : i + 8]) * 8 - sum(lengths[i : i + 8]) for i in range(0, 64, 8))
    assert waste < plain / 3
    assert order != batch_order(lengths, 8, seed=2)
    assert order == batch_order(lengths, 8, seed=1)


def test_weight_change_is_the_relative_frobenius_norm(tiny_folder):
    base, _ = load_language_model(tiny_folder, dtype=torch.float32)
    tuned, _ = load_language_model(tiny_folder, dtype=torch.float32)
    with torch.no_grad():
        for parameter in tuned.model.layers[2].parameters():
            parameter.mul_(1.1)
    rows = weight_change("x", base, tuned)
    assert [row["relative_change"] for row in rows] == pytest.approx([0, 0, 0.1, 0], abs=1e-6)


def test_the_connector_standardises_each_channel():
    connector = Connector(3, 4)
    features = torch.randn(50, 2, 3) * torch.tensor([1.0, 10.0, 0.0]) + 5
    connector.fit_statistics(features)
    standardised = ((features - connector.mean) / connector.scale).reshape(-1, 3)
    assert torch.allclose(standardised[:, :2].std(0), torch.ones(2), atol=1e-4)
    assert torch.allclose(standardised.mean(0), torch.zeros(3), atol=1e-4)
    assert torch.isfinite(connector(features)).all()


@pytest.mark.parametrize("layers", [None, (1, 3)])
def test_weight_change_from_files_is_that_of_the_models(tiny_folder, batches, tmp_path, layers):
    model = prepared(tiny_folder, "full", layers)
    run(model, batches)
    save_delta(model.language_model, tmp_path)
    base, _ = load_language_model(tiny_folder, dtype=torch.float32)
    expected = weight_change("x", base, model.language_model)
    measure_weight_change(
        subject="x", language_model=tiny_folder, tuned=tmp_path, out=tmp_path / "rows.parquet"
    )
    found = read_table(tmp_path / "rows.parquet").to_pandas()
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected), rtol=1e-12, check_dtype=False)
    assert [row["relative_change"] > 0 for row in expected] == [
        layers is None or layers[0] <= block < layers[1] for block in range(4)
    ]


def test_tensors_that_the_base_model_has_not_are_refused(tiny_folder, tmp_path):
    save_file({"model.layers.9.x": torch.zeros(2)}, tmp_path / "language_model.safetensors")
    with pytest.raises(DataError, match=r"no parameter 'model\.layers\.9\.x'"):
        measure_weight_change(
            subject="x", language_model=tiny_folder, tuned=tmp_path, out=tmp_path / "rows.parquet"
        )
    assert not (tmp_path / "rows.parquet").exists()
