"""Which blocks keep something for the backward pass, and where logits are computed."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.conftest import CHANNELS

from layersight.models.blocks import decoder_blocks, unwrapped
from layersight.models.connectors import Connector
from layersight.models.language import load_language_model
from layersight.models.vlm import VisionLanguageModel
from layersight.tuning import methods

BLOCKS = 4


def full(language_model, learn):
    language_model.requires_grad_(False)
    for index in learn:
        decoder_blocks(language_model)[index].requires_grad_(True)
    return language_model


def lora(language_model, learn):
    config = LoraConfig(
        r=2,
        target_modules=["q_proj", "down_proj"],
        layers_to_transform=list(learn),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)


METHODS = {"full": full, "lora": lora}


@pytest.fixture
def batch(answered):
    return answered


@pytest.fixture
def assembled(tiny_folder):
    """A tiny model in which a method acts on some blocks; the connector learns where asked to."""

    def made(method, learn, connector=False):
        torch.manual_seed(0)
        base, _ = load_language_model(tiny_folder, dtype=torch.float32)
        model = VisionLanguageModel(METHODS[method](base, learn), Connector(CHANNELS, 32))
        model.connector.requires_grad_(connector)
        return model.train()

    return made


def saved_per_block(model, batch):
    """Run the loss; return how many tensors the graph saved inside each block."""
    saved, inside = Counter(), [None]

    def enter(index):
        return lambda *_: inside.__setitem__(0, index)

    def leave(*_):
        inside[0] = None

    def pack(tensor):
        saved[inside[0]] += 1
        return tensor

    handles = []
    for index, block in enumerate(decoder_blocks(model.language_model)):
        handles += [block.register_forward_pre_hook(enter(index))]
        handles += [block.register_forward_hook(leave)]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = model.loss(batch)
    for handle in handles:
        handle.remove()
    return [saved[index] for index in range(BLOCKS)], loss


def runs_per_block(model, batch):
    """Run loss and backward pass; return how often each block ran."""
    runs, handles = Counter(), []

    def count(index):
        return lambda *_: runs.update([index])

    for index, block in enumerate(decoder_blocks(model.language_model)):
        # The norm, since a block that is computed again is not called, but what is in it.
        handles += [block.input_layernorm.register_forward_hook(count(index))]
    model.loss(batch)[0].backward()
    for handle in handles:
        handle.remove()
    return [runs[index] for index in range(BLOCKS)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("learn", [(1, 2), (2,), (3,), (0, 2)])
def test_frozen_blocks_below_the_first_that_learns_keep_nothing(assembled, batch, method, learn):
    saved, loss = saved_per_block(assembled(method, learn), batch)
    assert [count > 0 for count in saved] == [index >= min(learn) for index in range(BLOCKS)]
    loss.backward()


@pytest.mark.parametrize("method", METHODS)
def test_a_learning_connector_lies_below_every_block(assembled, batch, method):
    saved, _ = saved_per_block(assembled(method, (2,), connector=True), batch)
    assert min(saved) > 0


@pytest.mark.parametrize("method", METHODS)
def test_blocks_above_the_last_that_learns_are_crossed_without_weight_gradients(
    assembled, batch, method
):
    model = assembled(method, (1,))
    saved, loss = saved_per_block(model, batch)
    loss.backward()
    assert min(saved[2:]) > 0
    # Their own weights' gradients, had they any, would need the inputs of linear layers as well.
    everything, _ = saved_per_block(assembled(method, (1, 2, 3)), batch)
    assert all(here < there for here, there in zip(saved[2:], everything[2:], strict=True))
    for index, block in enumerate(decoder_blocks(model.language_model)):
        assert any(p.grad is not None for p in block.parameters()) == (index == 1)


@pytest.mark.parametrize("method", METHODS)
def test_gradient_checkpointing_computes_again_only_what_has_a_graph(assembled, batch, method):
    model = assembled(method, (2,))
    model.loss(batch)[0].backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    model.recompute_blocks()
    assert runs_per_block(model, batch) == [1, 1, 2, 2]
    again = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert again.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.equal(again[name], gradient), name


@pytest.mark.parametrize("method", METHODS)
def test_inputs_that_require_gradients_bring_every_block_into_the_graph(assembled, batch, method):
    """So training must not ask for them: checkpointing without re-entry needs none."""
    model = assembled(method, (2,))
    unwrapped(model.language_model).enable_input_require_grads()
    saved, _ = saved_per_block(model, batch)
    assert min(saved) > 0


def test_what_is_computed_again_needs_no_announced_positions(tiny_folder, batch):
    """On a GPU the backward pass runs in a thread of its own, to which none were announced."""

    def gradients(recompute):
        torch.manual_seed(0)
        base, _ = load_language_model(tiny_folder, dtype=torch.float32)
        method = methods.method("reft")
        model = VisionLanguageModel(
            method.apply(base, method.Options(rank=2), None), Connector(CHANNELS, 32)
        ).train()
        if recompute:
            model.recompute_blocks()
        loss, _ = model.loss(batch)
        with ThreadPoolExecutor(1) as other:
            other.submit(loss.backward).result()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    kept, again = gradients(False), gradients(True)
    assert again.keys() == kept.keys()
    for name, gradient in kept.items():
        assert torch.equal(again[name], gradient), name


def test_the_head_sees_the_tokens_before_answer_tokens_alone(assembled, batch):
    model = assembled("full", (1,))
    rows = []
    head = unwrapped(model.language_model).get_output_embeddings()
    head.register_forward_hook(lambda _, inputs, output: rows.append(tuple(output.shape)))
    _, count = model.loss(batch)
    assert 0 < count < batch.attention_mask.sum() / 2
    assert rows == [(count, head.weight.shape[0])]
