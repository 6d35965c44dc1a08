"""Attention of a tiny model, against Hugging Face's own `output_attentions`."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import CHANNELS, tiny_model

from layersight.adapters.steering import SteeringConfig
from layersight.attention.ratio import divide
from layersight.attention.read import (
    answered,
    attention_modules,
    attention_ratio,
    eager,
    generated_tokens,
)
from layersight.data.conversation import Role
from layersight.models.connectors import Connector
from layersight.models.vlm import VisionLanguageModel

PAD = 2
NEW = 5


@pytest.fixture
def model(tiny_folder):
    return tiny_model(tiny_folder, 0)


@pytest.fixture
def steered(tiny_folder):
    from peft import get_peft_model

    model = tiny_model(tiny_folder, 0)
    config = SteeringConfig(r=2, target_modules=r".*\.layers\.\d+")
    model.language_model = get_peft_model(model.language_model, config).eval()
    return model


def run(model, batch, end=-1, new_tokens=NEW):
    tokens = generated_tokens(model, batch, new_tokens=new_tokens, end=end, pad=PAD)
    return tokens, answered(batch, tokens, end)


def direct(model, whole):
    """All attention matrices at once, as transformers gives them."""
    with torch.inference_mode(), eager(model.language_model):
        return model.language_model(
            inputs_embeds=model.embed(whole),
            attention_mask=whole.attention_mask,
            position_ids=whole.positions,
            output_attentions=True,
            use_cache=False,
        ).attentions


def test_every_block_gives_what_transformers_gives(model, batch):
    found = attention_ratio(model, batch, new_tokens=NEW, end=-1, pad=PAD)
    _, whole = run(model, batch)
    matrices = direct(model, whole)
    assert found.shape == (4, 3, 2, 2, 2)
    prompt = batch.input_ids.shape[1]
    for block, matrix in enumerate(matrices):
        for row in range(3):
            image = (whole.roles[row] == int(Role.IMAGE)).nonzero().flatten()
            first = int(whole.attention_mask[row].argmax())
            means, sums = [], []
            for query in range(prompt - 1, prompt - 1 + NEW):
                weights = matrix[row].mean(0)[query]
                text = [
                    place for place in range(first + 1, query + 1) if place not in image.tolist()
                ]
                means.append((weights[image].mean(), weights[text].mean()))
                sums.append((weights[image].sum(), weights[text].sum()))
            for kind, values in enumerate((means, sums)):
                expected = torch.tensor(values).mean(0)
                assert torch.allclose(found[block, row, kind, 0], expected, atol=1e-6)


def test_attention_to_image_and_text_is_all_there_is(model, batch):
    found = attention_ratio(model, batch, new_tokens=NEW, end=-1, pad=PAD)
    assert torch.allclose(found[:, :, 1, 1].sum(-1), torch.ones(4, 3), atol=1e-5)


@pytest.mark.parametrize("which", ["model", "steered"])
def test_eager_attention_computes_the_same_and_the_kernel_is_put_back(which, batch, request):
    model = request.getfixturevalue(which)
    _, whole = run(model, batch)
    real = whole.attention_mask.bool()
    with torch.inference_mode():
        before = model.hidden(whole)[real]
        with eager(model.language_model):
            config = model.language_model.config
            assert config._attn_implementation == "eager"
            during = model.hidden(whole)[real]
        after = model.hidden(whole)[real]
    assert torch.allclose(before, during, atol=1e-5, rtol=0)
    assert torch.equal(before, after)
    assert model.language_model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("which", ["model", "steered"])
def test_one_pass_over_the_answer_is_what_generated_it(which, batch, request):
    model = request.getfixturevalue(which)
    tokens, whole = run(model, batch)
    with torch.inference_mode():
        logits = model.head(model.hidden(whole)[:, batch.input_ids.shape[1] - 1 : -1])
    assert torch.equal(logits.argmax(-1), tokens)


def test_steering_changes_what_is_read(model, steered, batch):
    before = attention_ratio(model, batch, new_tokens=NEW, end=-1, pad=PAD)
    after = attention_ratio(steered, batch, new_tokens=NEW, end=-1, pad=PAD)
    assert not torch.allclose(before[1:], after[1:], atol=1e-3)


def test_an_answer_ends_with_its_end_token_and_what_follows_is_padding(model, batch):
    tokens, _ = run(model, batch)
    end = int(tokens[0, 2])
    length = tokens[0].tolist().index(end) + 1
    ended, whole = run(model, batch, end=end)
    prompt = batch.input_ids.shape[1]
    assert whole.attention_mask[0, prompt:].tolist() == [
        int(place < length) for place in range(ended.shape[1])
    ]
    counted = divide(whole, prompt).queries[0]
    assert counted.tolist() == pytest.approx(
        [1 / length] * length + [0.0] * (len(counted) - length)
    )


def test_rows_do_not_depend_on_what_else_is_in_the_batch(model, batch):
    from dataclasses import replace

    alone = replace(
        batch,
        **{
            name: getattr(batch, name)[:1]
            for name in ("input_ids", "attention_mask", "roles", "features")
        },
    )
    found = attention_ratio(model, alone, new_tokens=NEW, end=-1, pad=PAD)
    together = attention_ratio(model, batch, new_tokens=NEW, end=-1, pad=PAD)
    assert torch.allclose(found[:, 0], together[:, 0], atol=1e-5)


def test_no_hook_stays_behind_even_after_an_error(model, batch):
    modules = attention_modules(model.language_model)
    attention_ratio(model, batch, new_tokens=1, end=-1, pad=PAD)
    assert not any(module._forward_hooks for module in modules)
    handle = modules[1].register_forward_hook(lambda *_: (torch.zeros(1), None))
    with pytest.raises(TypeError, match="LlamaAttention does not give its attention weights"):
        attention_ratio(model, batch, new_tokens=1, end=-1, pad=PAD)
    handle.remove()
    assert not any(module._forward_hooks for module in modules)
    assert model.language_model.config._attn_implementation == "sdpa"


def test_a_block_s_matrices_are_gone_before_the_next_block_computes_its_own(model, batch):
    import weakref

    alive, held = [], []

    def before(*_):
        held.append(sum(reference() is not None for reference in alive))

    def after(_, __, output):
        if output[1] is not None:  # while the answer is generated, there are none
            alive.append(weakref.ref(output[1]))

    handles = []
    for module in attention_modules(model.language_model):
        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    attention_ratio(model, batch, new_tokens=2, end=-1, pad=PAD)
    for handle in handles:
        handle.remove()
    assert len(alive) == 4
    assert set(held) == {0}


FAMILIES = {
    "phi": {"intermediate_size": 64, "num_key_value_heads": 4},
    "qwen2": {"intermediate_size": 64, "num_key_value_heads": 2},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "gpt_neox": {"intermediate_size": 64},
    "gpt2": {},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_known_family_gives_attention_that_sums_to_one(family, tokenizer, batch):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=PAD,
        **FAMILIES[family],
    )
    torch.manual_seed(0)
    language_model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model = VisionLanguageModel(language_model, Connector(CHANNELS, 32)).eval()
    found = attention_ratio(model, batch, new_tokens=NEW, end=-1, pad=PAD)
    assert found.shape == (2, 3, 2, 2, 2)
    assert torch.allclose(found[:, :, 1, 1].sum(-1), torch.ones(2, 3), atol=1e-5)
