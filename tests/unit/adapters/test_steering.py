"""Steering: the formula, and that nothing but the chosen tokens changes."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel, get_peft_model
from tests.conftest import IMAGE_TOKENS, QUESTIONS, tiny_model

from layersight.adapters.positions import announced
from layersight.adapters.steering import SteeredBlock, Steering, SteeringConfig
from layersight.data.collation import collate
from layersight.data.conversation import tokenize
from layersight.interventions.hybrid import Hybrid, run_hybrids
from layersight.models.blocks import decoder_blocks
from layersight.models.language import load_language_model

ALL_BLOCKS = r"model\.layers\.\d+"


def config(**settings):
    settings = {"r": 2, "target_modules": ALL_BLOCKS, "task_type": "CAUSAL_LM", **settings}
    return SteeringConfig(**settings)


def steered(folder, seed=0, **settings):
    model = tiny_model(folder, seed)
    model.language_model = get_peft_model(model.language_model, config(**settings))
    return model.eval()


@pytest.fixture
def mixed(tokenizer, feature_store):
    """A visual question, one without its picture, and another visual question."""
    questions = [QUESTIONS[0], "Which kind of thing is a circle?", QUESTIONS[2]]
    rows = [
        tokenize([{"from": "human", "value": question}], tokenizer, image_tokens=IMAGE_TOKENS)
        for question in questions
    ]
    return collate(rows, ["a", None, "c"], feature_store, padding="left", pad_token=2)


def changed_positions(model, batch, block=0):
    """Return where one block's output differs from that of the block without steering."""
    with torch.inference_mode():
        hidden = model.embed(batch)
        wrapped = decoder_blocks(model.language_model)[block]
        rotary = model.language_model.get_base_model().model.rotary_emb(hidden, batch.positions)
        out = wrapped(hidden, position_embeddings=rotary)
        plain = wrapped.base_layer(hidden, position_embeddings=rotary)
    return (out != plain).any(-1)


def test_the_edit_is_the_formula():
    torch.manual_seed(0)
    edit = Steering(16, SteeringConfig(r=3))
    h, R = torch.randn(5, 16), edit.frame.weight
    W, b = edit.source.weight, edit.source.bias
    expected = torch.stack([x + R @ (W @ x + b - R.T @ x) for x in h])
    assert torch.allclose(edit(h), expected, atol=1e-6)
    assert not torch.allclose(expected, h, atol=1e-2)


def test_the_edit_is_the_identity_where_w_is_the_frame_and_b_is_zero():
    edit = Steering(16, SteeringConfig(r=3))
    with torch.no_grad():
        edit.source.weight.copy_(edit.frame.weight.T)
        edit.source.bias.zero_()
        h = torch.randn(5, 16)
        assert torch.allclose(edit(h), h, atol=1e-6)


def test_the_edit_acts_in_the_frames_subspace_only():
    edit = Steering(16, SteeringConfig(r=3))
    h, R = torch.randn(5, 16), edit.frame.weight
    outside = torch.eye(16) - R @ R.T
    assert torch.allclose(edit(h) @ outside, h @ outside, atol=1e-5)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_frame_stays_orthonormal_while_it_learns_and_decays(weight_decay):
    torch.manual_seed(0)
    edit = Steering(16, SteeringConfig(r=3))
    start = edit.frame.weight.detach().clone()
    assert torch.allclose(start.T @ start, torch.eye(3), atol=1e-5)
    optimiser = torch.optim.AdamW(edit.parameters(), lr=0.1, weight_decay=weight_decay)
    for _ in range(20):
        edit(torch.randn(8, 16)).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    R = edit.frame.weight
    assert not torch.allclose(R, start, atol=0.1)
    assert torch.allclose(R.T @ R, torch.eye(3), atol=1e-5)


@pytest.mark.parametrize("dropout_on", ["update", "output"])
def test_dropout_acts_on_the_update_or_on_the_whole_token(dropout_on):
    torch.manual_seed(0)
    edit = Steering(400, SteeringConfig(r=2, dropout=0.5, dropout_on=dropout_on))
    h = torch.ones(1, 400) * 100
    with torch.no_grad():
        kept, dropped = edit.eval()(h), edit.train()(h)
    # What is dropped of the update leaves h itself; what is dropped of the output leaves nothing.
    left = h if dropout_on == "update" else torch.zeros_like(h)
    assert 100 < int((dropped == left).sum()) < 300
    assert not torch.equal(kept, dropped)


def test_only_chosen_image_tokens_change_in_a_block_and_rows_of_text_keep_their_bits(
    tiny_folder, mixed
):
    model = steered(tiny_folder, tokens="first-last", first=1, last=1)
    changed = changed_positions(model, mixed)
    image = announced().image
    assert changed.sum(-1).tolist() == [2, 0, 2]
    assert not bool((changed & ~image).any())
    for row in (0, 2):
        columns = image[row].nonzero().flatten()
        assert changed[row, columns].tolist() == [True, False, True]


def test_rows_of_text_keep_their_bits_through_the_whole_model(tiny_folder, mixed):
    model = steered(tiny_folder)
    with torch.inference_mode():
        tuned = model.hidden(mixed)
        with model.language_model.disable_adapter():
            base = model.hidden(mixed)
    assert torch.equal(tuned[1], base[1])
    assert not torch.equal(tuned[0], base[0])


def test_the_text_anchor_steers_one_token_before_the_users_words(tiny_folder, mixed):
    changed = changed_positions(steered(tiny_folder, text_anchor=True), mixed)
    assert changed.sum(-1).tolist() == [IMAGE_TOKENS, 1, IMAGE_TOKENS]
    column = int(changed[1].nonzero())
    assert announced().opening[1, column] and not announced().opening[1, column + 1]


def test_the_ends_of_the_prompt_change_and_answers_do_not(tiny_folder, tokenizer):
    row = tokenize(
        [{"from": "human", "value": "Which kind?"}, {"from": "gpt", "value": "round"}],
        tokenizer,
        image_tokens=IMAGE_TOKENS,
    )
    answered = collate([row], [None], None, padding="left", pad_token=2)
    model = steered(tiny_folder, stream="prompt", tokens="first-last", first=2, last=1)
    changed = changed_positions(model, answered)[0].nonzero().flatten().tolist()
    assert changed == [0, 1, int(announced().prompt.sum()) - 1]
    model = steered(tiny_folder, stream="prompt")
    assert torch.equal(changed_positions(model, answered), announced().prompt)
    assert not bool(announced().prompt.all())


def test_answers_generated_with_a_cache_are_those_generated_without(tiny_folder, batch):
    model = steered(tiny_folder, stream="prompt")
    answers = []
    for use_cache in (True, False):
        language_model = model.language_model.get_base_model()
        with torch.inference_mode():
            embeddings, mask = model.embed(batch), batch.attention_mask
            if use_cache:
                answers.append(
                    language_model.generate(
                        inputs_embeds=embeddings, attention_mask=mask, max_new_tokens=4,
                        min_new_tokens=4, do_sample=False, pad_token_id=2,
                    )
                )  # fmt: skip
            else:
                answers.append(longer_prompts(model, batch, 4))
    assert torch.equal(*answers)


def longer_prompts(model, batch, steps):
    """Generate greedily by reading the prompt and the answer so far anew for every token."""
    from layersight.data.batch import Batch
    from layersight.data.conversation import Role

    tokens = []
    for _ in range(steps):
        token = model.last_logits(batch).argmax(-1, keepdim=True)
        tokens.append(token)
        batch = Batch(
            torch.cat([batch.input_ids, token], -1),
            torch.cat([batch.attention_mask, torch.ones_like(token)], -1),
            batch.features,
            torch.cat([batch.roles, torch.full_like(token, int(Role.ANSWER))], -1),
        )
    return torch.cat(tokens, -1)


def test_a_batch_of_text_alone_can_be_trained_on_and_moves_no_edit(tiny_folder, tokenizer):
    row = tokenize(
        [{"from": "human", "value": "Which kind?"}, {"from": "gpt", "value": "round"}],
        tokenizer,
        image_tokens=IMAGE_TOKENS,
    )
    text = collate([row], [None], None, padding="right", pad_token=2, labels=True)
    model = steered(tiny_folder)
    model.loss(text)[0].backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert gradients and all(not bool(gradient.any()) for gradient in gradients)


def test_half_precision_blocks_are_edited_in_float32_and_keep_their_type(tiny_folder, batch):
    base, _ = load_language_model(tiny_folder, dtype=torch.bfloat16)
    model = tiny_model(tiny_folder, 0)
    model.language_model = get_peft_model(base, config())
    edits = [p for p in model.language_model.parameters() if p.requires_grad]
    assert {p.dtype for p in edits} == {torch.float32}
    assert model.hidden(batch).dtype == torch.bfloat16


def test_hybrids_of_steered_models_pass_both_identities(tiny_folder, mixed):
    target, donor = tiny_model(tiny_folder, 0), steered(tiny_folder, 1)
    nothing, everything = run_hybrids(
        target,
        donor,
        mixed,
        [Hybrid(0, 0), Hybrid(0, 4, connector="donor", everything_else="donor")],
    )
    with torch.inference_mode():
        assert torch.equal(nothing, target.last_logits(mixed))
        assert torch.equal(everything, donor.last_logits(mixed))
    assert not torch.equal(nothing, everything)


def test_a_block_that_reads_another_batch_than_was_announced_is_an_error(tiny_folder, batch):
    model = steered(tiny_folder)
    hidden = model.embed(batch)[:, 1:]
    rotary = model.language_model.get_base_model().model.rotary_emb(hidden, batch.positions[:, 1:])
    with pytest.raises(RuntimeError, match="but the block reads"):
        decoder_blocks(model.language_model)[0](hidden, position_embeddings=rotary)


def test_a_wrapped_block_answers_for_the_block_inside(tiny_folder):
    block = decoder_blocks(steered(tiny_folder).language_model)[0]
    assert isinstance(block, SteeredBlock)
    assert block.self_attn is block.base_layer.self_attn
    with pytest.raises(AttributeError, match="nothing_like_this"):
        block.nothing_like_this


def test_steering_is_not_merged_but_unloads_to_the_base_model(tiny_folder, batch):
    model, base = steered(tiny_folder), tiny_model(tiny_folder, 0)
    with pytest.raises(NotImplementedError, match="cannot be merged"):
        model.language_model.merge_and_unload()
    model.language_model = model.language_model.unload()
    with torch.inference_mode():
        assert torch.equal(model.last_logits(batch), base.last_logits(batch))


def test_peft_loads_it_under_any_adapter_name(tiny_folder, batch, tmp_path):
    model = steered(tiny_folder)
    model.language_model.save_pretrained(tmp_path)
    fresh, _ = load_language_model(tiny_folder, dtype=torch.float32)
    loaded = tiny_model(tiny_folder, 0)
    loaded.connector = model.connector
    loaded.language_model = PeftModel.from_pretrained(fresh, tmp_path, adapter_name="other").eval()
    with torch.inference_mode():
        assert torch.equal(loaded.last_logits(batch), model.last_logits(batch))
