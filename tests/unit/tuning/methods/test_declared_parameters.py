"""Every method lets exactly the declared parameters learn, in exactly the chosen blocks."""

from __future__ import annotations

import pytest
import torch
from tests.unit.tuning.methods.declared import (
    DECLARED,
    LAYERS,
    LINEAR,
    OUTER,
    WIDTH,
    declared,
    learning,
)

from layersight.errors import TrainingError
from layersight.tuning import methods

CHOICES = pytest.mark.parametrize("layers", [None, [1, 2], [0, 2, 3]], ids=["all", "run", "apart"])


def test_every_method_is_tested_here():
    assert [name for name in methods.names() if methods.trains(name)] == sorted(DECLARED)
    assert [name for name in methods.names() if not methods.trains(name)] == ["released"]


@CHOICES
@pytest.mark.parametrize("method", DECLARED)
def test_the_declared_parameters_learn_and_no_others(prepare, method, layers):
    found = learning(prepare(method, DECLARED[method][0], layers))
    outer = OUTER if method == "full" and layers is None else set()
    assert outer <= set(found)
    inside = {name: p.numel() for name, p in found.items() if name not in outer}
    assert inside == declared(method, layers)


@pytest.mark.parametrize("method", sorted({*DECLARED} - {"full", "peft"}))
def test_predicted_sizes_are_those_of_the_declared_parameters(method):
    module = methods.method(method)
    linear = {name.rpartition(".")[2]: ends for name, ends in LINEAR.items()}
    predicted = module.tensors(module.Options(**DECLARED[method][0]), linear, WIDTH)
    assert sorted(predicted) == sorted(DECLARED[method][1].values())


@CHOICES
@pytest.mark.parametrize("method", DECLARED)
def test_three_steps_change_what_learns_and_leave_all_else_bit_for_bit(
    prepare, run_steps, method, layers
):
    model = prepare(method, DECLARED[method][0], layers)
    wanted = {f"language_model.{name}" for name in learning(model)}
    if method == "mores":  # nothing reads image tokens behind the last block
        wanted = {name for name in wanted if f".layers.{LAYERS - 1}." not in name}
    wanted |= {f"connector.{name}" for name, _ in model.connector.named_parameters()}
    before = everything(model)
    losses = [record.loss for record in run_steps(model)]
    after = everything(model)
    assert {name for name in after if not torch.equal(before[name], after[name])} == wanted
    assert losses[-1] < losses[0]


def everything(model):
    """Return copies of all parameters and buffers, tied ones once."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors}


@pytest.mark.parametrize("method", sorted({*DECLARED} - {"freeze", "connector"}))
@pytest.mark.parametrize(
    ("layers", "message"),
    [([], "names no block"), ([0, LAYERS], r"no block 4; its blocks are \[0, 4\)")],
)
def test_blocks_that_do_not_exist_are_refused(prepare, method, layers, message):
    with pytest.raises(TrainingError, match=f"^layers: .*{message}"):
        prepare(method, DECLARED[method][0], layers)


@pytest.mark.parametrize("method", ["freeze", "connector"])
def test_controls_let_nothing_of_the_language_model_learn_whatever_the_layers(prepare, method):
    assert not learning(prepare(method, {}, [1, 2]))
    assert methods.method(method).TRAINS_CONNECTOR is (method == "connector")
