"""Options that do not fit the model or adapt nothing are refused, by their names."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tests.unit.tuning.methods.declared import DECLARED

from layersight.errors import TrainingError
from layersight.tuning import methods


def loha(**arguments):
    return {"config": "LoHaConfig", "arguments": {"r": 2, **arguments}}


@pytest.mark.parametrize("layers", [None, [0, 2]])
@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("lora", {"r": 2, "target_modules": ["q_proj", "key"]}, "target_modules: key .*k_proj"),
        ("qlora", {"r": 2, "target_modules": ["key"]}, "target_modules: key is no linear.*k_proj"),
        ("ia3", {"target_modules": ["key"]}, "target_modules: key is no linear layer.*k_proj"),
        ("ia3", {"feedforward_modules": ["k"]}, "feedforward_modules: k is no linear.*k_proj"),
        ("oft", {"r": 4, "target_modules": ["key"]}, "target_modules: key is no linear.*k_proj"),
        ("adapter", {"before": ["key"]}, "before: key is no linear layer of.*k_proj"),
        ("adapter", {"after": ["key"]}, "after: key is no linear layer of.*k_proj"),
        ("peft", loha(target_modules=["key"]), "target_modules: key is no module of.*k_proj"),
        ("peft", loha(target_modules=["q_proj", "key"]), "target_modules: key is no module"),
        ("lora", {"r": 33}, "r: 33 is more than down_proj can have, 32|r: 33 is more than .*32"),
        ("qlora", {"r": 33, "target_modules": ["up_proj"]}, "33 is more than up_proj can have, 32"),
        ("oft", {"r": 5}, "r: 5 blocks do not divide the 32 outputs of q_proj"),
        ("oft", {"r": 64}, "r: 64 blocks do not divide the 32 outputs of q_proj"),
        ("adapter", {"after": ["up_proj"]}, "after: up_proj stands in options.before as well"),
        ("mores", {"rank": 33}, "rank: 33 is more than the model's width, 32"),
        ("reft", {"rank": 33}, "rank: 33 is more than the model's width, 32"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused_by_name(
    prepare, method, options, message, layers
):
    with pytest.raises(TrainingError, match=message) as caught:
        prepare(method, options, layers)
    assert "\n" not in str(caught.value)


def test_a_target_that_only_other_blocks_have_is_refused_and_the_blocks_are_named(base):
    model = base()
    for block in (model.model.layers[1], model.model.layers[2]):
        block.mlp.extra = block.mlp.up_proj
    options = methods.method("lora").Options(r=2, target_modules=["extra"])
    with pytest.raises(TrainingError, match=r"extra is no linear layer of .*\[0, 1\), \[3, 4\)"):
        methods.method("lora").apply(model, options, [0, 3])


@pytest.mark.parametrize("method", ["adapter", "ia3", "oft"])
def test_a_model_that_has_none_of_the_usual_names_is_told_to_be_given_some(base, method):
    model = base()
    for block in model.model.layers:
        for part, names in ((block.self_attn, "qkvo"), (block.mlp, ("gate", "up", "down"))):
            for name in names:
                setattr(part, f"my_{name}", getattr(part, f"{name}_proj"))
                delattr(part, f"{name}_proj")
    with pytest.raises(TrainingError, match="these blocks have none of .*_proj.*; name .*my_down"):
        methods.method(method).apply(model, methods.method(method).Options(), None)


@pytest.mark.parametrize("layers", [[1], [0, 2]])
def test_what_would_learn_outside_of_the_chosen_blocks_is_refused(prepare, layers):
    arguments = {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    options = {"config": "LoraConfig", "arguments": arguments}
    with pytest.raises(
        TrainingError, match="lm_head.* would learn, .*outside the variant's layers"
    ):
        prepare("peft", options, layers)


@pytest.mark.parametrize("method", DECLARED)
def test_an_unknown_option_is_refused(method):
    with pytest.raises(ValidationError, match="rnak"):
        methods.method(method).Options(**DECLARED[method][0], rnak=1)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("mores", {"first": 0, "last": 0}, "first and last are both 0"),
        ("mores", {"tokens": "ratio", "ratio": 0.0}, "greater than 0"),
        ("mores", {"tokens": "ratio", "ratio": 1.01}, "less than or equal to 1"),
        ("mores", {"every": 2}, "every"),
        ("reft", {"first": 0, "last": 0}, "first and last are both 0"),
        ("reft", {"tokens": "ratio"}, "first-last"),
        ("ia3", {"target_modules": [], "feedforward_modules": []}, "are both empty"),
        ("adapter", {"before": [], "after": []}, "are both empty"),
        ("oft", {"target_modules": []}, "at least 1 item"),
        ("lora", {"target_modules": []}, "at least 1 item"),
        ("lora", {"r": 0}, "greater than 0"),
        ("qlora", {"double_quantization": "yes"}, "valid boolean"),
        ("peft", {"config": "LohaConfig"}, "'LohaConfig' is none of .*LoHaConfig"),
        ("peft", {"config": "PrefixTuningConfig"}, "'PrefixTuningConfig' is none of"),
        ("peft", {"config": "AdaLoraConfig"}, "'AdaLoraConfig' is none of"),
        ("peft", loha(rank=2), "knows no 'rank'; known: .*alpha"),
        ("peft", loha(task_type="x"), "set by the workflow"),
        ("peft", {"config": "OFTConfig", "arguments": {"r": 0, "oft_block_size": 0}}, "refuses"),
    ],
)
def test_options_that_are_wrong_by_themselves_are_refused_with_the_study(method, options, message):
    with pytest.raises(ValidationError, match=message):
        methods.method(method).Options(**options)
