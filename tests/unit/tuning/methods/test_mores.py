"""MoReS: every one of its options, at the tokens of real conversations."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import IMAGE_TOKENS, QUESTIONS
from tests.unit.tuning.methods.declared import blocks_of, learning

from layersight.adapters.positions import announced
from layersight.adapters.steering import Steering
from layersight.data.collation import collate
from layersight.data.conversation import tokenize
from layersight.models.blocks import decoder_blocks


@pytest.fixture
def mixed(tokenizer, feature_store):
    """A visual question, one without a picture, and another visual question."""
    questions = [QUESTIONS[0], "Which kind of thing is a circle?", QUESTIONS[2]]
    rows = [
        tokenize([{"from": "human", "value": question}], tokenizer, image_tokens=IMAGE_TOKENS)
        for question in questions
    ]
    return collate(rows, ["a", None, "c"], feature_store, padding="left", pad_token=2)


def edits(model):
    return [m for m in model.language_model.modules() if isinstance(m, Steering)]


def through(model, batch, block=0):
    """Return what one block gives with its edit and without."""
    hidden = model.embed(batch)
    wrapped = decoder_blocks(model.language_model)[block]
    rotary = model.language_model.get_base_model().model.rotary_emb(hidden, batch.positions)
    edited = wrapped(hidden, position_embeddings=rotary)
    return edited.detach(), wrapped.base_layer(hidden, position_embeddings=rotary).detach()


@pytest.mark.parametrize("rank", [1, 2, 4, 32])
@pytest.mark.parametrize("bias", [True, False])
def test_rank_and_bias_are_what_the_options_say(prepare, rank, bias):
    model = prepare("mores", {"rank": rank, "bias": bias})
    assert [edit.frame.weight.shape for edit in edits(model)] == [(32, rank)] * 4
    assert all((edit.source.bias is not None) == bias for edit in edits(model))
    assert sum(p.numel() for p in learning(model).values()) == 4 * (64 * rank + rank * bias)


@pytest.mark.parametrize(
    ("options", "dropout", "acts_on"),
    [
        ({}, 0.0, "update"),
        ({"variant": "paper", "dropout": 0.3}, 0.3, "update"),
        ({"variant": "code"}, 0.05, "output"),
        ({"variant": "code", "dropout": 0.0}, 0.0, "output"),
    ],
)
def test_the_paper_drops_nothing_and_the_released_code_a_twentieth(
    prepare, options, dropout, acts_on
):
    config = prepare("mores", options).language_model.peft_config["default"]
    assert (config.dropout, config.dropout_on) == (dropout, acts_on)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_dropout_leaves_the_base_models_values_in_the_paper_and_zeros_in_the_code(
    prepare, mixed, variant
):
    options = {"variant": variant, "dropout": 0.5, "tokens": "all", "rank": 4}
    edited, plain = through(prepare("mores", options).train(), mixed)
    image = announced().image
    left = plain if variant == "paper" else torch.zeros_like(plain)
    share = (edited == left)[image].float().mean().item()
    assert 0.3 < share < 0.7
    assert torch.equal(edited[~image], plain[~image])


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("anchor", [False, True])
def test_conversations_without_a_picture_keep_their_bits_while_training_unless_anchored(
    prepare, mixed, variant, anchor
):
    options = {"variant": variant, "dropout": 0.5, "tokens": "all", "compat_text_anchor": anchor}
    model = prepare("mores", options).train()
    with torch.no_grad():
        tuned = model.hidden(mixed)
        with model.language_model.disable_adapter():
            plain = model.hidden(mixed)
    assert torch.equal(tuned[1], plain[1]) != anchor
    assert not torch.equal(tuned[0], plain[0])


@pytest.mark.parametrize(
    ("options", "steered"),
    [
        ({"tokens": "all"}, [0, 1, 2]),
        ({"tokens": "first-last", "first": 1, "last": 1}, [0, 2]),
        ({"tokens": "first-last", "first": 0, "last": 2}, [1, 2]),
        ({"tokens": "uniform", "number": 1}, [2]),
        ({"tokens": "uniform", "number": 2}, [1, 2]),
        ({"tokens": "ratio", "ratio": 0.01}, [2]),
        ({"tokens": "ratio", "ratio": 0.67}, [1, 2]),
        ({"tokens": "ratio", "ratio": 1.0}, [0, 1, 2]),
    ],
)
def test_the_steered_image_tokens_are_those_that_the_options_name(prepare, mixed, options, steered):
    edited, plain = through(prepare("mores", options), mixed)
    changed = (edited != plain).any(-1)
    image = announced().image
    assert not bool(changed[~image].any())
    for row in (0, 2):
        assert changed[row][image[row]].nonzero().flatten().tolist() == steered


@pytest.mark.parametrize("layers", [None, [1, 2], [0, 3]])
def test_only_the_chosen_blocks_are_steered(prepare, mixed, layers):
    model = prepare("mores", {"tokens": "all"}, layers)
    chosen = {0, 1, 2, 3} if layers is None else set(layers)
    assert blocks_of(learning(model)) == chosen
    for block in chosen:
        edited, plain = through(model, mixed, block)
        assert not torch.equal(edited, plain)


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_w_equal_to_the_frame_and_no_bias_give_the_base_model(prepare, mixed, variant):
    model = prepare("mores", {"variant": variant, "tokens": "all", "rank": 4})
    with torch.no_grad():
        tuned = model.last_logits(mixed)
        for edit in edits(model):
            edit.source.weight.copy_(edit.frame.weight.T)
            edit.source.bias.zero_()
        same = model.last_logits(mixed)
        with model.language_model.disable_adapter():
            plain = model.last_logits(mixed)
    assert torch.allclose(same, plain, atol=1e-4)
    assert not torch.allclose(tuned, plain, atol=1e-2)


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("rank", [1, 4])
def test_frames_turn_and_stay_orthonormal_while_training_with_and_without_weight_decay(
    prepare, run_steps, rank, weight_decay
):
    model = prepare("mores", {"rank": rank, "tokens": "all"})
    starts = [edit.frame.weight.detach().clone() for edit in edits(model)]
    run_steps(model, steps=10, weight_decay=weight_decay)
    for index, (edit, start) in enumerate(zip(edits(model), starts, strict=True)):
        R = edit.frame.weight.detach()
        assert torch.allclose(R.T @ R, torch.eye(rank), atol=1e-5)
        # No answer depends on the last block's edit: its frame gets decay alone, which turns none.
        assert torch.equal(R, start) == (index == 3)


def test_weight_decay_shrinks_w_and_leaves_the_frame(prepare, run_steps):
    model = prepare("mores", {"tokens": "all"}, [3])
    edit = edits(model)[0]
    before = edit.frame.weight.detach().clone(), edit.source.weight.detach().clone()
    run_steps(model, weight_decay=0.5)
    assert torch.equal(edit.frame.weight, before[0])
    assert edit.source.weight.norm() < before[1].norm()
    assert torch.allclose(
        edit.source.weight / edit.source.weight.norm(), before[1] / before[1].norm(), atol=1e-6
    )
