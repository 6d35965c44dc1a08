"""The vision encoder inside the model: what of it learns, and that nothing else moves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.conftest import QUESTIONS
from tests.unit.models.encoders import GRID, SIDE, lively_tower
from torch import nn

from layersight.data.collation import collate
from layersight.data.conversation import IMAGE_TOKEN, tokenize
from layersight.data.features import FeatureStore
from layersight.errors import TrainingError
from layersight.models.connectors import Connector
from layersight.models.language import load_language_model
from layersight.models.vision import image_features, load_efficientnet_lite0
from layersight.models.vision_tower import VisionTower
from layersight.models.vlm import VisionLanguageModel

TAIL = ("_blocks.14.", "_blocks.15.", "_conv_head.", "_bn1.")
# Parameters that image features pass through: 4,652,008 of the network less its classifier.
LEARNING = {
    "none": (lambda name: False, 0),
    "all": (lambda name: not name.startswith("_fc."), 3_371_008),
    2: (lambda name: name.startswith(TAIL), 1_493_760),
    16: (lambda name: not name.startswith(("_fc.", "_conv_stem.", "_bn0.")), 3_370_080),
}


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (3, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)


@pytest.fixture
def visual(tiny_folder, tokenizer, pictures):
    """A tiny model with a vision encoder, and a training batch that brings the pictures."""

    def made(what):
        language_model, _ = load_language_model(tiny_folder, dtype=torch.float32)
        tower = lively_tower()
        tower.learn(what)
        torch.manual_seed(1)
        connector = Connector(tower.encoder.channels, 32)
        with torch.no_grad():
            features = tower(pictures)
        connector.fit_statistics(features)
        model = VisionLanguageModel(language_model.requires_grad_(False), connector, tower)
        rows = [
            tokenize(
                [{"from": "human", "value": question}, {"from": "gpt", "value": "round"}],
                tokenizer,
                image_tokens=GRID**2,
            )
            for question in QUESTIONS
        ]
        cached = collate(
            rows, list("abc"), FeatureStore(list("abc"), features),
            padding="right", pad_token=2, labels=True,
        )  # fmt: skip
        return model, cached, replace(cached, features=None, pixels=pictures)

    return made


@pytest.mark.parametrize("what", LEARNING)
def test_exactly_the_declared_parameters_learn(what):
    tower = VisionTower(load_efficientnet_lite0(None), GRID)
    tower.learn("all")
    tower.learn(what)
    declared, count = LEARNING[what]
    names = {name for name, _ in tower.encoder.named_parameters() if declared(name)}
    assert set(tower.learning()) == names
    assert sum(p.numel() for p in tower.parameters() if p.requires_grad) == count


@pytest.mark.parametrize("what", [0, 17])
def test_more_blocks_than_there_are_are_refused(what):
    tower = VisionTower(load_efficientnet_lite0(None), GRID)
    with pytest.raises(TrainingError, match=f"train_vision: the last {what} blocks.*has 16"):
        tower.learn(what)


def test_training_leaves_the_statistics_of_batch_normalisation_as_they_are(visual):
    model, _, batch = visual("all")
    before = {name: b.clone() for name, b in model.vision.named_buffers()}
    model.train()
    model.loss(batch)[0].backward()
    norms = [m for m in model.vision.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 49
    assert not any(norm.training for norm in norms)
    assert model.vision.training
    for name, buffer in model.vision.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_features_with_gradients_are_those_that_are_stored(pictures):
    tower = lively_tower()
    tower.learn("all")
    features = tower(pictures)
    (stored,) = image_features(lively_tower().encoder, [pictures.numpy()], GRID, features.device)
    assert features.requires_grad
    assert features.std() > 0.1
    assert torch.allclose(features, stored, atol=1e-5)


def test_a_batch_of_pixels_is_embedded_as_its_features_are(visual):
    model, cached, batch = visual("all")
    embedded = model.embed(batch)
    assert embedded.requires_grad
    assert torch.allclose(embedded, model.embed(cached), atol=1e-6)


def test_anothers_connector_reads_the_features_of_the_models_own_encoder(visual):
    model, _, batch = visual("none")
    other, _, _ = visual("none")
    with torch.no_grad():
        for parameter in [*other.vision.parameters(), *other.connector.parameters()]:
            parameter.mul_(1.1)
    expected = other.connector(model.vision(batch.pixels)).flatten(0, 1)
    embedded = model.embed(batch, connector=other.connector)
    assert torch.allclose(embedded[batch.input_ids == IMAGE_TOKEN], expected, atol=1e-6)


def test_pixels_without_a_vision_encoder_are_refused(visual):
    model, _, batch = visual("none")
    with pytest.raises(ValueError, match="no vision encoder"):
        VisionLanguageModel(model.language_model, model.connector).embed(batch)


@pytest.mark.parametrize("connector_learns", [False, True])
@pytest.mark.parametrize("what", ["none", "all", 2])
def test_a_training_step_changes_the_declared_tensors_and_no_other_bit(
    visual, what, connector_learns
):
    model, _, batch = visual(what)
    model.connector.requires_grad_(connector_learns)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learning = [p for p in model.parameters() if p.requires_grad]
    model.train()
    loss, _ = model.loss(batch)
    if not learning:
        assert not loss.requires_grad
        return
    optimiser = torch.optim.AdamW(learning, lr=1e-3)
    loss.backward()
    optimiser.step()
    parameters = {name for name, _ in model.vision.encoder.named_parameters()}
    declared, _ = LEARNING[what]
    for name, value in model.state_dict().items():
        inner = name.removeprefix("vision.encoder.")
        if name.startswith("connector."):
            expected = connector_learns and name not in ("connector.mean", "connector.scale")
        else:
            expected = inner != name and inner in parameters and declared(inner)
        assert torch.equal(value, before[name]) != expected, name


def test_what_learns_is_laid_out_as_a_checkpoint_brings_it_back(visual):
    """A fused optimiser walks a parameter and its state side by side, whatever their strides."""
    model, _, batch = visual("all")
    learning = [p for p in model.vision.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=1e-3, fused=True)
    model.loss(batch)[0].backward()
    optimiser.step()
    for parameter in learning:
        assert parameter.is_contiguous()
        assert parameter.grad.is_contiguous()
        assert optimiser.state[parameter]["exp_avg"].is_contiguous()
