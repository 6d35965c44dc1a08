"""What every method saves gives the same model back, and what the methods start from."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel
from tests.unit.tuning.methods.declared import DECLARED, blocks_of, learning

from layersight.adapters import register_all
from layersight.errors import TrainingError
from layersight.models.deltas import apply_delta, load_connector, save_connector, save_delta
from layersight.models.vlm import VisionLanguageModel
from layersight.tuning import methods

ADAPTERS = sorted({*DECLARED} - {"freeze", "connector", "full"})
APART = [0, 2, 3]
each_adapter = pytest.mark.parametrize("method", ADAPTERS)


@each_adapter
def test_a_saved_delta_gives_the_same_logits_bit_for_bit(
    prepare, base, run_steps, batch, tmp_path, method
):
    model = prepare(method, DECLARED[method][0], APART)
    run_steps(model)
    save_delta(model.language_model, tmp_path)
    save_connector(model.connector, tmp_path)
    fresh = apply_delta(base(method), tmp_path)
    loaded = VisionLanguageModel(fresh, load_connector(tmp_path)).eval()
    with torch.inference_mode():
        tuned = model.eval().last_logits(batch)
        assert torch.equal(loaded.last_logits(batch), tuned)
        with model.language_model.disable_adapter():
            assert not torch.equal(model.last_logits(batch), tuned)


@pytest.mark.parametrize("method", ["adapter", "mores", "oft", "reft"])
def test_peft_loads_our_adapters_of_blocks_that_lie_apart_by_itself(
    prepare, base, run_steps, batch, tmp_path, method
):
    model = prepare(method, DECLARED[method][0], APART)
    run_steps(model)
    model.language_model.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    register_all()
    loaded = PeftModel.from_pretrained(base(), tmp_path, is_trainable=True)
    again = VisionLanguageModel(loaded, model.connector).eval()
    assert {n: p.shape for n, p in learning(again).items()} == {
        n: p.shape for n, p in learning(model).items()
    }
    with torch.inference_mode():
        assert torch.equal(again.last_logits(batch), model.eval().last_logits(batch))


@each_adapter
def test_saved_adapters_are_safetensors_that_know_no_path_and_have_the_same_bytes(
    prepare, tiny_folder, tmp_path, method
):
    for name in ("one", "two"):
        save_delta(prepare(method, DECLARED[method][0]).language_model, tmp_path / name)
    folder = tmp_path / "one" / "adapter"
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".md", ".safetensors"]
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "two" / "adapter" / path.name).read_bytes()
        assert str(tiny_folder).encode() not in path.read_bytes()


@pytest.mark.parametrize("method", ["ia3", "lora", "oft", "qlora"])
def test_methods_that_start_from_the_identity_do(prepare, batch, method):
    model = prepare(method, DECLARED[method][0])
    with torch.inference_mode():
        tuned = model.last_logits(batch)
        with model.language_model.disable_adapter():
            assert torch.equal(model.last_logits(batch), tuned)


@pytest.mark.parametrize("method", ["adapter", "mores", "oft", "reft"])
def test_gradients_are_those_of_blocks_that_are_computed_again(prepare, batch, method):
    gradients = []
    for again in (False, True):
        model = prepare(method, DECLARED[method][0]).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if again:
            model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
        model.last_logits(batch).square().mean().backward()
        gradients.append({name: p.grad for name, p in learning(model).items()})
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name


def test_the_connector_alone_learns_and_its_delta_holds_no_language_model(
    prepare, base, run_steps, batch, tmp_path
):
    model = prepare("connector")
    run_steps(model)
    save_delta(model.language_model, tmp_path)
    assert list(tmp_path.iterdir()) == []
    loaded = VisionLanguageModel(apply_delta(base(), tmp_path), model.connector).eval()
    with torch.inference_mode():
        assert torch.equal(loaded.last_logits(batch), model.eval().last_logits(batch))


def test_adapters_before_the_mlp_alone_are_allowed(prepare):
    found = learning(prepare("adapter", {"after": [], "bottleneck": 4}))
    assert {name.split(".mlp.")[1].split(".")[0] for name in found} == {"gate_proj", "up_proj"}


def test_the_width_of_the_narrowest_target_is_a_rank_that_lora_may_have(prepare):
    found = learning(prepare("lora", {"r": 32, "target_modules": ["down_proj"]}, [3]))
    assert sum(p.numel() for p in found.values()) == 32 * (32 + 64)


def test_layers_reach_peft_methods_that_choose_no_blocks_themselves(prepare):
    options = {"config": "IA3Config"}
    with pytest.raises(TrainingError, match="chooses no blocks by itself"):
        prepare("peft", options, [1, 2])
    options["arguments"] = {"target_modules": ["k_proj"], "feedforward_modules": []}
    assert blocks_of(learning(prepare("peft", options, [0, 2]))) == {0, 2}
    options["arguments"] = {
        "target_modules": ["k_proj", "down_proj"],
        "feedforward_modules": ["down_proj"],
    }
    sizes = {name: p.numel() for name, p in learning(prepare("peft", options, [3])).items()}
    assert sorted(sizes.values()) == [32, 64]


@pytest.mark.parametrize(
    "arguments",
    [
        {"target_modules": ["self_attn.q_proj"]},
        {"target_modules": "all-linear"},
        {},
    ],
)
def test_peft_targets_written_in_other_ways_are_restricted_to_blocks_too(prepare, arguments):
    options = {"config": "LoraConfig", "arguments": {"r": 2, **arguments}}
    found = learning(prepare("peft", options, [0, 3]))
    assert blocks_of(found) == {0, 3}


def test_a_bank_that_blocks_share_is_counted_once(prepare):
    arguments = {"r": 2, "num_vectors": 8, "vector_length": 8, "target_modules": ["q_proj"]}
    found = learning(prepare("peft", {"config": "VBLoRAConfig", "arguments": arguments}, [1, 3]))
    assert blocks_of(found) == {1, 3}
    assert sum("vector_bank" in name for name in found) == 1


def test_methods_say_how_their_base_model_is_loaded_and_only_qlora_needs_more_than_its_type():
    cpu = torch.device("cpu")
    for name in sorted({*DECLARED} - {"qlora"}):
        options = methods.method(name).Options.model_construct()
        assert methods.quantization(name, options, dtype=torch.float32, device=cpu) is None
