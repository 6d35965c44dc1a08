"""QLoRA: the base model in four bits, and what is said where that cannot be."""

from __future__ import annotations

import sys

import pytest
import torch
from tests.unit.tuning.methods.declared import LINEAR, learning

from layersight.errors import TrainingError
from layersight.models.deltas import apply_delta, save_delta
from layersight.models.vlm import VisionLanguageModel
from layersight.tuning import methods

CPU = torch.device("cpu")
qlora = methods.method("qlora")


def test_a_missing_bitsandbytes_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingError, match="qlora needs the package bitsandbytes.*pip install"):
        qlora.quantization(qlora.Options(), dtype=torch.float32, device=CPU)


def test_a_device_that_bitsandbytes_cannot_use_is_one_clear_error():
    pytest.importorskip("bitsandbytes")
    with pytest.raises(TrainingError, match="cannot quantise on the device meta"):
        qlora.quantization(qlora.Options(), dtype=torch.float32, device=torch.device("meta"))


def test_a_base_model_that_is_not_quantised_is_not_taken_for_one(base):
    with pytest.raises(ValueError, match="qlora needs a base model loaded with"):
        qlora.apply(base("lora"), qlora.Options(r=2), None)


def test_the_linear_layers_of_the_blocks_are_in_four_bits_and_nothing_else_is(base):
    whole = dict(base("lora").named_parameters())
    found = dict(base("qlora").named_parameters())
    assert set(found) == set(whole)
    for name, parameter in found.items():
        if any(f".{linear}." in name for linear in LINEAR):
            assert parameter.dtype == torch.uint8
            assert parameter.numel() * 2 == whole[name].numel()
        else:
            assert torch.equal(parameter, whole[name])


def test_double_quantization_can_be_left_out(base):
    states = [
        base("qlora", double_quantization=double).model.layers[0].mlp.up_proj.weight.quant_state
        for double in (True, False)
    ]
    assert [state.nested for state in states] == [True, False]
    assert {state.quant_type for state in states} == {"nf4"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_updates_learn_in_float32_on_a_base_of_any_type(base, batch, dtype):
    torch.manual_seed(0)
    tuned = qlora.apply(base("qlora", dtype=dtype), qlora.Options(r=2), [0, 2])
    model = VisionLanguageModel(tuned, None)
    assert {p.dtype for p in learning(model).values()} == {torch.float32}
    with torch.no_grad():
        for name, parameter in learning(model).items():
            if "lora_B" in name:
                parameter.normal_()
    hidden = torch.randn(2, 5, 32, dtype=dtype)
    out = tuned(inputs_embeds=hidden).logits
    assert out.dtype == dtype
    out.float().square().mean().backward()
    assert all(bool(p.grad.any()) for p in learning(model).values())


def test_updates_learned_on_four_bits_load_and_merge_on_the_whole_weights(
    prepare, base, run_steps, tmp_path
):
    model = prepare("qlora", {"r": 2, "lora_alpha": 2}, [1])
    run_steps(model)
    save_delta(model.language_model, tmp_path)
    before = base().model.layers[1].mlp.up_proj.weight
    merged = apply_delta(base(), tmp_path).merge_and_unload()
    parts = {name.split(".")[-3]: p for name, p in learning(model).items() if ".up_proj." in name}
    change = merged.model.layers[1].mlp.up_proj.weight - before
    assert torch.allclose(change, parts["lora_B"] @ parts["lora_A"], atol=1e-6)
    assert bool(change.any())
