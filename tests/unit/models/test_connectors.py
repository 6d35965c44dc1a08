"""Connectors of every kind: what they compute, how large they are, what comes back from disk."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import CHANNELS, IMAGE_TOKENS, QUESTIONS
from torch import nn

from layersight.cost.shapes import connector_parameters
from layersight.data.collation import collate
from layersight.data.conversation import IMAGE_TOKEN, tokenize
from layersight.errors import DataError
from layersight.models.connectors import KINDS, Connector, make_connector
from layersight.models.deltas import load_connector, save_connector
from layersight.models.language import load_language_model
from layersight.models.vlm import VisionLanguageModel
from layersight.study import Connector as Asked

WIDTH = 32
ASKED = {
    "mlp2x_gelu": {},
    "linear": {},
    "mlp": {"layers": 3},
    "qformer": {"layers": 3, "queries": 5, "heads": 2, "size": 16},
    "resampler": {"layers": 3, "queries": 5, "heads": 2, "size": 16},
}


def made(kind, channels=CHANNELS, width=WIDTH):
    torch.manual_seed(0)
    return make_connector(kind, channels, width, **Asked(kind=kind, **ASKED[kind]).settings)


@pytest.mark.parametrize("kind", ASKED)
def test_it_has_the_parameters_that_are_priced_and_comes_back_bit_by_bit(kind, tmp_path):
    connector = made(kind)
    connector.set_statistics(torch.randn(CHANNELS), torch.rand(CHANNELS) + 0.5)
    held = sum(tensor.numel() for tensor in connector.state_dict().values())
    settings = Asked(kind=kind, **ASKED[kind]).settings
    assert connector_parameters(kind, CHANNELS, WIDTH, settings) == held
    save_connector(connector, tmp_path)
    before = torch.random.get_rng_state()
    back = load_connector(tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())
    assert type(back) is type(connector) is KINDS[kind]
    features = torch.randn(2, 7, CHANNELS)
    embeddings = connector.eval()(features)
    assert embeddings.shape == (2, connector.tokens(7), WIDTH)
    assert (
        connector.tokens(7)
        == settings.get("queries", 7)
        == Asked(kind=kind, **ASKED[kind]).tokens(7)
    )
    assert torch.equal(back.eval()(features), embeddings)


def test_published_sizes_of_a_q_former_are_priced_right():
    """BLIP-2's: 12 layers of width 768, 32 queries, features of 1408 channels."""
    settings = {"layers": 12, "queries": 32, "heads": 12, "size": 768}
    with torch.device("meta"):
        connector = make_connector("qformer", 1408, 2560, **settings)
    held = sum(tensor.numel() for tensor in connector.state_dict().values())
    assert connector_parameters("qformer", 1408, 2560, settings) == held
    former = sum(p.numel() for p in connector.former.parameters())
    assert former == 105_137_664  # of Salesforce/blip2-opt-2.7b, as its qformer has


def test_layers_of_an_mlp_stand_one_after_the_other_with_gelu_between_them():
    connector = made("mlp")
    first, second, third = connector.linears
    plain = nn.Sequential(first, nn.GELU(), second, nn.GELU(), third)
    features = torch.randn(2, 3, CHANNELS)
    assert torch.equal(connector(features), plain(features))
    two = make_connector("mlp", CHANNELS, WIDTH, layers=2)
    same = Connector(CHANNELS, WIDTH)
    same.first, same.second = two.linears
    assert torch.equal(two(features), same(features))


def test_the_identity_gives_the_standardised_features_and_needs_equal_widths():
    connector = make_connector("identity", CHANNELS, CHANNELS)
    features = torch.randn(2, 3, CHANNELS)
    assert torch.equal(connector(features), features)
    connector.fit_statistics(features)
    assert connector(features).mean().abs() < 1e-6
    assert not list(connector.parameters())
    with pytest.raises(ValueError, match="no 12 channels into a language model of width 32"):
        make_connector("identity", CHANNELS, WIDTH)


@pytest.mark.parametrize("kind", ["qformer", "resampler"])
def test_queries_read_every_feature_and_no_order_of_them(kind):
    connector = made(kind).eval()
    features = torch.randn(1, 6, CHANNELS)
    embeddings = connector(features)
    assert torch.allclose(connector(features.flip(1)), embeddings, atol=1e-6)
    for token in range(6):
        other = features.clone()
        other[:, token] += 1.0
        assert not torch.allclose(connector(other), embeddings, atol=1e-6)


@pytest.mark.parametrize("kind", ASKED)
def test_the_whole_model_learns_through_it(kind, tiny_folder, tokenizer, feature_store):
    base, _ = load_language_model(tiny_folder, dtype=torch.float32)
    model = VisionLanguageModel(base.requires_grad_(False), made(kind))
    rows = [
        tokenize(
            [{"from": "human", "value": question}, {"from": "gpt", "value": "round"}],
            tokenizer,
            image_tokens=model.image_tokens(IMAGE_TOKENS),
        )
        for question in QUESTIONS
    ]
    batch = collate(rows, list("abc"), feature_store, padding="right", pad_token=2, labels=True)
    assert int((batch.input_ids == IMAGE_TOKEN).sum()) == 3 * model.image_tokens(IMAGE_TOKENS)
    losses = []
    optimiser = torch.optim.AdamW(model.connector.parameters(), lr=1e-3)
    for _ in range(5):
        optimiser.zero_grad()
        loss, _ = model.loss(batch)
        loss.backward()
        assert all(p.grad is not None for p in model.connector.parameters())
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_a_file_without_a_kind_is_an_mlp_of_two_layers_and_another_kind_is_refused(tmp_path):
    from safetensors.torch import save_file

    connector = Connector(CHANNELS, WIDTH)
    path = tmp_path / "connector.safetensors"
    save_file(connector.state_dict(), path)
    features = torch.randn(1, 2, CHANNELS)
    assert torch.equal(load_connector(tmp_path)(features), connector(features))
    for header in ('{"kind": "spline", "channels": 2, "width": 2, "settings": {}}', "{", "3"):
        save_file(connector.state_dict(), path, metadata={"connector": header})
        with pytest.raises(DataError, match=r"connector\.safetensors: not a"):
            load_connector(tmp_path)
