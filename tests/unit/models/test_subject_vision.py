"""What a learning vision encoder leaves in its stage's folder, and what measuring reads of it."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.unit.models.encoders import GRID, SIDE, lively_tower

from layersight.data.features import FeatureStore
from layersight.data.schemas import IMAGES
from layersight.errors import DataError
from layersight.models.deltas import VISION, apply_vision, save_vision
from layersight.models.pixels import PixelStore
from layersight.models.stages import compute_features
from layersight.models.subject_vision import load_tower, subject_features
from layersight.models.subjects import features_of
from layersight.storage.tables import write_table


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def images(tmp_path, pictures):
    rows = [
        {
            "image_id": f"{name}/filled",
            "concept": name,
            "style": "filled",
            "image": {"bytes": png(picture), "path": f"{name}.png"},
        }
        for name, picture in zip("abc", pictures, strict=True)
    ]
    write_table(tmp_path / "images.parquet", rows, IMAGES)
    return tmp_path / "images.parquet"


@pytest.fixture
def tuned(smoke, tmp_path):
    """A stage's folder in which the last two blocks of the study's encoder have learned."""
    folder = tmp_path / "tuned"
    folder.mkdir()
    tower = load_tower(smoke, None)
    tower.learn(2)
    with torch.no_grad():
        for parameter in tower.learning().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_vision(tower, folder)
    return tower, folder


def test_a_saved_encoder_holds_what_learned_alone_and_comes_back_bit_by_bit(tmp_path):
    tower = lively_tower()
    tower.learn(2)
    with torch.no_grad():
        for parameter in tower.learning().values():
            parameter.mul_(1.5)
    save_vision(tower, tmp_path)
    assert set(load_file(tmp_path / VISION)) == set(tower.learning())
    loaded = apply_vision(lively_tower(), tmp_path)
    for name, value in tower.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert not loaded.learning()


def test_an_encoder_that_did_not_learn_leaves_no_file_and_stays_as_it_is(tmp_path, smoke):
    save_vision(lively_tower(), tmp_path)
    assert not list(tmp_path.iterdir())
    before = lively_tower().state_dict()
    for name, value in apply_vision(lively_tower(), tmp_path).state_dict().items():
        assert torch.equal(value, before[name])
    default = tmp_path / "image_features.safetensors"
    assert subject_features(smoke, tmp_path, images=tmp_path / "none", weights=None) is None
    assert features_of(tmp_path, default) == default
    assert features_of(None, default) == default


def test_a_lost_encoder_is_not_taken_for_one_that_did_not_learn(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"trainable_vision": 7}))
    with pytest.raises(DataError, match=r"no vision_encoder\.safetensors.* that 7 parameters"):
        features_of(tmp_path, tmp_path / "image_features.safetensors")
    with pytest.raises(DataError, match=r"no vision_encoder\.safetensors"):
        apply_vision(lively_tower(), tmp_path)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"_blocks.99._bn1.bias": torch.zeros(2)}, r"vision encoder has no parameter '_blocks\.99"),
        ({"_bn1.bias": torch.zeros(2)}, r"_bn1\.bias has the shape \(2,\), the vision encoder's"),
    ],
)
def test_tensors_of_another_encoder_are_refused(tmp_path, tensors, message):
    save_file(tensors, tmp_path / VISION)
    with pytest.raises(DataError, match=message):
        apply_vision(lively_tower(), tmp_path)


def test_the_towers_features_are_the_studys_and_random_numbers_go_on(smoke, images, pictures):
    out = images.with_name("features.safetensors")
    compute_features(smoke, images=images, weights=None, out=out)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    tower = load_tower(smoke, None)
    assert torch.equal(torch.rand(3), expected)
    store = FeatureStore.load(out)
    features = tower(torch.from_numpy(pictures))
    assert torch.allclose(features, store.take(["a/filled", "b/filled", "c/filled"]), atol=1e-6)
    assert store.tokens == GRID**2


def test_a_subject_has_the_features_of_its_own_encoder(smoke, images, pictures, tuned, tmp_path):
    tower, folder = tuned
    default = tmp_path / "image_features.safetensors"
    compute_features(smoke, images=images, weights=None, out=default)
    with pytest.raises(DataError, match=r"tuned/features\.safetensors: no such file"):
        features_of(folder, default)
    made = subject_features(smoke, folder, images=images, weights=None)
    assert made == features_of(folder, default) == folder / "features.safetensors"
    own = FeatureStore.load(made).features
    with torch.no_grad():
        assert torch.allclose(own, tower(torch.from_numpy(pictures)), atol=1e-6)
    assert (own - FeatureStore.load(default).features).abs().max() > 1e-3
    assert sorted(path.name for path in folder.iterdir()) == ["features.safetensors", VISION]


def test_features_of_a_subject_are_computed_once(smoke, images, tuned):
    _, folder = tuned
    made = subject_features(smoke, folder, images=images, weights=None)
    images.unlink()
    before = made.stat().st_mtime_ns
    assert subject_features(smoke, folder, images=images, weights=None) == made
    assert made.stat().st_mtime_ns == before


def test_training_reads_the_pixels_that_features_are_computed_from(smoke, images, pictures):
    store = PixelStore(smoke, images)
    taken = store.take(["c/filled", "a/filled", "c/filled"])
    assert taken.dtype == torch.uint8
    assert torch.equal(taken, torch.from_numpy(pictures[[2, 0, 2]]))


def test_a_picture_that_training_lacks_or_that_has_another_size_is_named(smoke, images):
    with pytest.raises(DataError, match=r"images\.parquet: has no picture d/filled"):
        PixelStore(smoke, images).take(["a/filled", "d/filled"])
    smaller = smoke.model_copy(
        update={"concepts": smoke.concepts.model_copy(update={"image_size": 32})}
    )
    with pytest.raises(DataError, match="picture a/filled: has 64 × 64 pixels"):
        PixelStore(smaller, images).take(["a/filled"])
