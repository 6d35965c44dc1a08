"""What is captured of every family of models, against Hugging Face and against the block itself."""

from __future__ import annotations

import pytest
import torch
from tests.unit.models.families import FAMILIES, HEADS, LAYERS, VOCABULARY, WIDTH, tiny_of
from torch import nn

from layersight.activations.capture import capture, head_outputs
from layersight.activations.dump import model_shape
from layersight.data.batch import Batch
from layersight.errors import AssetError
from layersight.models.blocks import block_parts, decoder_blocks, final_norm
from layersight.models.vlm import VisionLanguageModel

SITES = ("residual", "attention", "mlp", "heads")
ROWS, LENGTH, PADDED = 2, 7, 3
NORM_AFTER = ("opt-norm-after", "opt-narrow-embeddings")


def padded() -> Batch:
    """Two rows of random tokens; the second is shorter, padded on the left."""
    tokens = torch.randint(
        3, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0)
    )
    mask = torch.ones_like(tokens)
    mask[1, :PADDED] = 0
    return Batch(tokens, mask, None, mask.to(torch.int8))


def read(model, batch, sites=SITES):
    """Every real token at every site: `(layers, tokens, width)`."""
    outer = VisionLanguageModel(model, None)
    found, _ = capture(outer, batch, ["last"], sites=sites, every=True)
    return {site: one.tokens for site, one in found.items()}, found


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def model(family, tmp_path):
    return tiny_of(family, tmp_path / "model")


def test_the_residual_stream_is_that_of_hugging_face_and_the_last_one_before_the_final_norm(
    model,
):
    batch = padded()
    captured = read(model, batch)[0]["residual"]
    real = batch.attention_mask.bool()
    hidden = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.positions,
        output_hidden_states=True,
    ).hidden_states
    assert captured.shape == (LAYERS + 1, LENGTH * ROWS - PADDED, WIDTH)
    assert len(hidden) == LAYERS + 1
    for layer in range(LAYERS):
        torch.testing.assert_close(captured[layer], hidden[layer][real], rtol=0, atol=1e-5)
    normed = final_norm(model)(captured[LAYERS])
    torch.testing.assert_close(normed, hidden[LAYERS][real], rtol=1e-5, atol=1e-5)


def test_what_attention_and_mlp_add_makes_the_next_residual(model, family):
    sites = read(model, padded())[0]
    before, after = sites["residual"][:-1], sites["residual"][1:]
    assert sites["attention"].shape == sites["mlp"].shape == after.shape
    if family in NORM_AFTER:
        for layer, block in enumerate(decoder_blocks(model)):
            middle = block.self_attn_layer_norm(before[layer] + sites["attention"][layer])
            expected = block.final_layer_norm(middle + sites["mlp"][layer])
            torch.testing.assert_close(after[layer], expected, rtol=1e-5, atol=1e-5)
        return
    added = sites["attention"] + sites["mlp"]
    torch.testing.assert_close(before + added, after, rtol=1e-5, atol=2e-5)
    assert sites["attention"].abs().mean() > 0.01, "attention adds something"
    assert sites["mlp"].abs().mean() > 0.01, "the MLP adds something"


def test_the_heads_and_the_bias_add_up_to_attention_and_each_head_is_its_slice(model):
    sites = read(model, padded())[0]
    shape = model_shape(model)
    assert (shape.layers, shape.width) == (LAYERS, WIDTH)
    assert sites["heads"].shape[-1] == shape.heads_width
    each = shape.heads_width // HEADS
    for layer, parts in enumerate(block_parts(model)):
        z = sites["heads"][layer]
        found = head_outputs(z, parts.projection, HEADS)
        assert found.shape == (len(z), HEADS, WIDTH)
        # GPT-2's Conv1D holds the transpose of what a linear layer holds.
        weight = parts.projection.weight
        weight = weight if isinstance(parts.projection, nn.Linear) else weight.T
        for head in range(HEADS):
            own = slice(head * each, (head + 1) * each)
            expected = z[:, own] @ weight[:, own].T
            torch.testing.assert_close(found[:, head], expected, rtol=1e-5, atol=1e-5)
        bias = parts.projection.bias
        total = found.sum(1) + (0 if bias is None else bias)
        torch.testing.assert_close(total, sites["attention"][layer], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_half_precision_is_read_as_float32_and_holds_the_models_own_numbers(name, dtype, tmp_path):
    model = tiny_of(name, tmp_path / "model", dtype)
    batch = padded()
    found, pooled = read(model, batch)
    assert {one.dtype for one in found.values()} == {torch.float32}
    assert {one.pooled.dtype for one in pooled.values()} == {torch.float32}
    hidden = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.positions,
        output_hidden_states=True,
    ).hidden_states
    for layer in range(LAYERS):
        expected = hidden[layer][batch.attention_mask.bool()]
        assert expected.dtype == dtype
        assert torch.equal(found["residual"][layer], expected.float())


def test_heads_with_low_rank_adapters_on_the_projection_add_up_too(tmp_path):
    from peft import LoraConfig, get_peft_model

    model = tiny_of("llama", tmp_path / "model")
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["o_proj"])).eval()
    for name, parameter in tuned.named_parameters():
        if "lora" in name:
            nn.init.normal_(parameter)
    sites = read(tuned, padded())[0]
    projection = block_parts(tuned)[0].projection
    found = head_outputs(sites["heads"][0], projection, HEADS)
    torch.testing.assert_close(found.sum(1), sites["attention"][0], rtol=1e-5, atol=1e-5)


def test_an_unknown_architecture_is_named_with_those_that_are_known(tmp_path):
    from transformers import AutoModelForCausalLM, BloomConfig

    config = BloomConfig(vocab_size=20, hidden_size=8, n_layer=1, n_head=2)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(AssetError, match=r"is a BloomForCausalLM.*attention.*not known.*GPT-NeoX"):
        block_parts(model)
    with pytest.raises(AssetError, match="is a Linear, and where such a model has its blocks"):
        decoder_blocks(nn.Linear(2, 2))
    with pytest.raises(AssetError, match="is a Linear, and where such a model has its final norm"):
        final_norm(nn.Linear(2, 2))
