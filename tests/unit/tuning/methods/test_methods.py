"""Every method: what learns, what does not, and that what it saves gives the same model back."""

from __future__ import annotations

import re

import pytest
import torch
from pydantic import ValidationError

from layersight.errors import TrainingError
from layersight.models.deltas import apply_delta, load_connector, save_connector, save_delta
from layersight.models.language import load_language_model
from layersight.models.vlm import VisionLanguageModel
from layersight.tuning import methods

# Of the tiny model, with 4 blocks of width 32 and an MLP of width 64: what learns in all of them,
# by a part of its name, and how many numbers that are.
CASES = {
    "ia3": ({}, "ia3_l", 4 * (2 * 32 + 64)),
    "oft": ({"r": 4}, "rotation_blocks", 4 * 3 * 4 * 8**2),
    "adapter": ({"bottleneck": 4}, "bottleneck_", 4 * 3 * 2 * 32 * 4),
    "mores": ({"rank": 2, "first": 1, "last": 1}, "steering_edit", 4 * (2 * 32 * 2 + 2)),
    "reft": ({"rank": 3}, "steering_edit", 4 * (2 * 32 * 3 + 3)),
    "peft": (
        {"config": "LoHaConfig", "arguments": {"r": 2, "target_modules": ["q_proj"]}},
        "hada_",
        4 * 4 * 32 * 2,
    ),
}
each_method = pytest.mark.parametrize("method", CASES)


def learning(model):
    return {n: p for n, p in model.language_model.named_parameters() if p.requires_grad}


def blocks_of(names):
    return {int(re.search(r"\.layers\.(\d+)\.", name)[1]) for name in names}


def test_every_method_is_tested_here_or_with_the_training():
    assert set(methods.names()) == {*CASES, "freeze", "connector", "full", "lora"}


@each_method
def test_the_declared_parameters_learn_and_no_others(prepare, method):
    options, part, count = CASES[method]
    found = learning(prepare(method, options))
    assert all(part in name for name in found)
    assert sum(p.numel() for p in found.values()) == count
    assert blocks_of(found) == {0, 1, 2, 3}


@each_method
def test_a_range_of_blocks_holds_its_share_of_the_parameters(prepare, method):
    options, _, count = CASES[method]
    found = learning(prepare(method, options, (1, 3)))
    assert blocks_of(found) == {1, 2}
    assert sum(p.numel() for p in found.values()) == count // 2


@each_method
def test_three_steps_change_what_learns_and_leave_all_else_bit_for_bit(prepare, run_steps, method):
    options, part, _ = CASES[method]
    model = prepare(method, options, (1, 3))
    before = {n: v.clone() for n, v in model.language_model.state_dict().items()}
    losses = [record.loss for record in run_steps(model)]
    changed = {
        name
        for name, value in model.language_model.state_dict().items()
        if not torch.equal(before[name], value)
    }
    assert changed == set(learning(model))
    assert all(part in name for name in changed)
    assert losses[-1] < losses[0]


@each_method
def test_a_saved_delta_gives_the_same_logits_bit_for_bit(
    prepare, run_steps, batch, tiny_folder, tmp_path, method
):
    model = prepare(method, CASES[method][0], (0, 3))
    run_steps(model)
    save_delta(model.language_model, tmp_path)
    save_connector(model.connector, tmp_path)
    fresh, _ = load_language_model(tiny_folder, dtype=torch.float32)
    loaded = VisionLanguageModel(apply_delta(fresh, tmp_path), load_connector(tmp_path)).eval()
    with torch.inference_mode():
        tuned = model.eval().last_logits(batch)
        assert torch.equal(loaded.last_logits(batch), tuned)
        with model.language_model.disable_adapter():
            assert not torch.equal(model.last_logits(batch), tuned)


@pytest.mark.parametrize("method", [*CASES, "lora"])
def test_saved_adapters_are_safetensors_that_know_no_path_and_have_the_same_bytes(
    prepare, tiny_folder, tmp_path, method
):
    for name in ("one", "two"):
        save_delta(prepare(method, CASES.get(method, ({},))[0]).language_model, tmp_path / name)
    folder = tmp_path / "one" / "adapter"
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".md", ".safetensors"]
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "adapter" / path.name).read_bytes()
        assert str(tiny_folder).encode() not in path.read_bytes()


@pytest.mark.parametrize("method", ["ia3", "oft"])
def test_methods_that_start_from_the_identity_do(prepare, batch, method):
    model = prepare(method, CASES[method][0])
    with torch.inference_mode():
        tuned = model.last_logits(batch)
        with model.language_model.disable_adapter():
            assert torch.equal(model.last_logits(batch), tuned)


@pytest.mark.parametrize("method", ["freeze", "connector"])
def test_controls_let_nothing_of_the_language_model_learn(prepare, method):
    assert not learning(prepare(method, {}, (1, 3)))
    assert methods.method(method).TRAINS_CONNECTOR is (method == "connector")


def test_the_connector_alone_learns_and_its_delta_holds_no_language_model(
    prepare, run_steps, batch, tiny_folder, tmp_path
):
    model = prepare("connector")
    before = {n: v.clone() for n, v in model.state_dict().items()}
    run_steps(model)
    changed = {n for n, v in model.state_dict().items() if not torch.equal(before[n], v)}
    assert changed == {f"connector.{n}" for n, _ in model.connector.named_parameters()}
    save_delta(model.language_model, tmp_path)
    assert list(tmp_path.iterdir()) == []
    fresh, _ = load_language_model(tiny_folder, dtype=torch.float32)
    loaded = VisionLanguageModel(apply_delta(fresh, tmp_path), model.connector).eval()
    with torch.inference_mode():
        assert torch.equal(loaded.last_logits(batch), model.eval().last_logits(batch))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("ia3", {"target_modules": ["key"]}, "target_modules: key is no linear layer.*k_proj"),
        ("oft", {"r": 5}, "r: 5 blocks do not divide the 32 outputs of q_proj"),
        ("adapter", {"after": ["up_proj"]}, "after: up_proj stands in options.before as well"),
        ("mores", {"rank": 33}, "rank: 33 is more than the model's width, 32"),
        ("reft", {"rank": 33}, "rank: 33 is more than the model's width, 32"),
        ("peft", {"config": "LoHaConfig", "arguments": {"target_modules": ["key"]}}, "key"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused_by_name(prepare, method, options, message):
    with pytest.raises(TrainingError, match=message):
        prepare(method, options)


@pytest.mark.parametrize("method", [*CASES, "freeze", "connector"])
def test_an_unknown_option_is_refused(prepare, method):
    options = CASES.get(method, ({},))[0]
    with pytest.raises(ValidationError, match="rnak"):
        prepare(method, {**options, "rnak": 1})


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mores", {"first": 0, "last": 0}, "first and last are both 0"),
        ("reft", {"first": 0, "last": 0}, "first and last are both 0"),
        ("ia3", {"target_modules": [], "feedforward_modules": []}, "are both empty"),
        ("adapter", {"before": [], "after": []}, "are both empty"),
        ("oft", {"target_modules": []}, "at least 1 item"),
    ],
)
def test_options_that_would_adapt_nothing_are_refused(prepare, method, options, message):
    with pytest.raises(ValidationError, match=message):
        prepare(method, options)


def test_adapters_before_the_mlp_alone_are_allowed(prepare):
    found = learning(prepare("adapter", {"after": [], "bottleneck": 4}))
    assert {name.split(".mlp.")[1].split(".")[0] for name in found} == {"gate_proj", "up_proj"}


def test_the_released_code_of_mores_drops_whole_tokens_and_the_paper_drops_nothing(prepare):
    dropouts = {
        variant: prepare("mores", {"variant": variant}).language_model.peft_config["default"]
        for variant in ("paper", "code")
    }
    found = {name: (config.dropout, config.dropout_on) for name, config in dropouts.items()}
    assert found == {"paper": (0.0, "update"), "code": (0.05, "output")}


def test_steering_every_second_block_starts_at_the_first_of_the_range(prepare):
    assert blocks_of(learning(prepare("mores", {"every": 2}))) == {0, 2}
    assert blocks_of(learning(prepare("mores", {"every": 2}, (1, 4)))) == {1, 3}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": "LohaConfig"}, "'LohaConfig' is none of .*LoHaConfig"),
        ({"config": "PrefixTuningConfig"}, "'PrefixTuningConfig' is none of"),
        ({"config": "LoHaConfig", "arguments": {"rank": 2}}, "knows no 'rank'; known: .*alpha"),
        ({"config": "LoHaConfig", "arguments": {"task_type": "x"}}, "set by the workflow"),
        ({"config": "OFTConfig", "arguments": {"r": 0, "oft_block_size": 0}}, "refuses them"),
    ],
)
def test_arguments_of_another_peft_method_are_checked_with_the_study(options, message):
    module = methods.method("peft")
    with pytest.raises(ValidationError, match=message):
        module.Options(**options)


def test_a_range_reaches_peft_methods_that_choose_no_blocks_themselves(prepare):
    options = {"config": "IA3Config"}
    with pytest.raises(TrainingError, match="chooses no blocks by itself"):
        prepare("peft", options, (1, 3))
    options["arguments"] = {"target_modules": ["k_proj"], "feedforward_modules": []}
    assert blocks_of(learning(prepare("peft", options, (1, 3)))) == {1, 2}
