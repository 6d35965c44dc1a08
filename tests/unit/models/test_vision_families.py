"""CLIP, SigLIP and DINOv2 as vision encoders, against transformers' own features of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from tests.unit.models import tiny_checkpoints as tiny

from layersight.data.features import FeatureStore
from layersight.data.images import encoder_ready, mean_colour
from layersight.data.schemas import IMAGES
from layersight.errors import AssetError, TrainingError
from layersight.models.backbones import resolve
from layersight.models.deltas import apply_vision, save_vision
from layersight.models.stages import compute_features, load_tower
from layersight.models.subject_vision import subject_features
from layersight.storage.tables import write_table
from layersight.study import Study

PATCHES = (tiny.SIDE // tiny.PATCH) ** 2


@pytest.fixture(scope="module", params=tiny.VISION)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return tiny.write_vision_encoder(tmp_path_factory.mktemp(family), family)


def study_of(smoke, folder, **encoder):
    data = smoke.model_dump(mode="json")
    data["concepts"]["image_size"] = tiny.SIDE
    data["backbone"]["vision_encoder"] = {"source": "folder", "path": str(folder)} | encoder
    return Study.model_validate_json(json.dumps(resolve(data)))


def theirs(folder, family, pixels, layer):
    """Transformers' processor and model on the same pictures, all tokens of a hidden state."""
    model = getattr(transformers, f"{tiny.VISION[family][0]}Model").from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    values = processor(images=list(pixels), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        return model(values, output_hidden_states=True).hidden_states[layer]


@pytest.mark.parametrize(("layer", "feature"), [(-2, "patch"), (1, "patch"), (-2, "cls_patch")])
def test_features_are_the_hidden_states_that_transformers_gives(
    smoke, folder, family, layer, feature
):
    if (family, feature) == ("siglip", "cls_patch"):
        with pytest.raises(ValueError, match="siglip has no class token"):
            study_of(smoke, folder, select_feature=feature)
        return
    study = study_of(smoke, folder, select_layer=layer, select_feature=feature)
    pixels = tiny.pictures()
    with torch.inference_mode():
        features = load_tower(study, folder)(torch.from_numpy(pixels))
    expected = theirs(folder, family, pixels, layer)
    extra = expected.shape[1] - PATCHES
    assert extra == (0 if family == "siglip" else 1)
    expected = expected if feature == "cls_patch" else expected[:, extra:]
    assert features.shape == (3, study.backbone.vision_encoder.tokens, 24)
    assert expected.std() > 0.1
    assert torch.allclose(features, expected, atol=1e-5)


def test_the_last_layer_is_before_the_final_norm(smoke, folder, family):
    study = study_of(smoke, folder, select_layer=-1)
    pixels = tiny.pictures()
    encoder = load_tower(study, folder).encoder
    seen = []
    model = getattr(transformers, f"{tiny.VISION[family][0]}Model").from_pretrained(folder).eval()
    last = model.encoder.layer[-1] if family == "dinov2" else model.encoder.layers[-1]
    last.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.inference_mode():
        model(encoder.prepare(torch.from_numpy(pixels)))
        features = encoder(torch.from_numpy(pixels))
    extra = seen[0].shape[1] - PATCHES
    assert torch.allclose(features, seen[0][:, extra:], atol=1e-5)


def images_of(path, pixels, names=None):
    rows = [
        {"image_id": names[i] if names else f"{i}", "concept": "x", "style": "s",
         "image": {"bytes": tiny.png(picture), "path": f"{i}.png"}}
        for i, picture in enumerate(pixels)
    ]  # fmt: skip
    write_table(path, rows, IMAGES)
    return path


def test_stored_features_learn_and_come_back(smoke, folder, tmp_path):
    study = study_of(smoke, folder)
    images = images_of(tmp_path / "images.parquet", tiny.pictures())
    compute_features(study, images=images, weights=folder, out=tmp_path / "features.safetensors")
    store = FeatureStore.load(tmp_path / "features.safetensors")
    assert (store.tokens, store.channels) == (PATCHES, 24)
    tower = load_tower(study, folder)
    tower.learn("all")
    # Layer -2 of 3 blocks: two are used, and the third cannot learn.
    names = set(tower.learning())
    assert not any(".2." in name for name in names) and any(".1." in name for name in names)
    loss = tower(torch.from_numpy(tiny.pictures())).square().mean()
    loss.backward()
    assert all(p.grad is not None for n, p in tower.learning().items() if "mask_token" not in n)
    with pytest.raises(TrainingError, match="the last 3 blocks, but features pass through 2"):
        tower.learn(3)
    tower.learn(1)
    with torch.no_grad():
        for parameter in tower.learning().values():
            parameter.add_(0.05)
    (tmp_path / "tuned").mkdir()
    save_vision(tower, tmp_path / "tuned")
    assert set(load_file(tmp_path / "tuned/vision_encoder.safetensors")) == set(tower.learning())
    back = apply_vision(load_tower(study, folder), tmp_path / "tuned")
    pixels = torch.from_numpy(tiny.pictures())
    with torch.inference_mode():
        assert torch.equal(back(pixels), tower(pixels))
    own = subject_features(study, tmp_path / "tuned", images=images, weights=folder)
    with torch.inference_mode():
        assert torch.allclose(FeatureStore.load(own).features, tower(pixels), atol=1e-6)


def test_pictures_of_the_study_are_brought_to_the_encoders_size(smoke, folder, family, tmp_path):
    data = study_of(smoke, folder).model_dump(mode="json")
    data["concepts"]["image_size"] = 40
    study = Study.model_validate_json(json.dumps(data))
    pixels = tiny.pictures(2, 40)
    out = tmp_path / "features.safetensors"
    images = images_of(tmp_path / "images.parquet", pixels)
    compute_features(study, images=images, weights=folder, out=out)
    extra = 0 if family == "siglip" else 1
    expected = theirs(folder, family, pixels, -2)[:, extra:]
    found = FeatureStore.load(out).features
    # SigLIP's processor has bicubic resampling as well, DINOv2's too: the same pixels.
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_cropped_picture_is_what_clips_processor_makes_of_it():
    pixels = np.random.default_rng(1).integers(0, 256, (50, 33, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    processor = tiny.image_processor("clip")
    for image in (picture, picture.transpose(Image.Transpose.ROTATE_90)):
        expected = processor(images=image, do_normalize=False, do_rescale=False)["pixel_values"][0]
        own = np.asarray(encoder_ready(image, tiny.SIDE, "crop", mean_colour((0.5, 0.5, 0.5))))
        assert np.array_equal(np.asarray(expected).transpose(1, 2, 0), own)


def test_a_whole_clip_gives_the_features_of_its_vision_half(smoke, tmp_path):
    """Published CLIPs hold text and vision; the vision half alone is loaded."""
    config = transformers.CLIPConfig(
        vision_config=tiny.vision_config("clip").to_dict(),
        text_config={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                     "num_attention_heads": 2, "vocab_size": 50},
    )  # fmt: skip
    whole = tiny.lively(transformers.CLIPModel(config))
    whole.save_pretrained(tmp_path)
    tiny.image_processor("clip").save_pretrained(tmp_path)
    study = study_of(smoke, tmp_path)
    pixels = tiny.pictures()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    values = processor(images=list(pixels), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = whole.vision_model(values, output_hidden_states=True).hidden_states[-2][:, 1:]
        features = load_tower(study, tmp_path)(torch.from_numpy(pixels))
    assert torch.allclose(features, expected, atol=1e-5)


def test_a_checkpoint_of_other_sizes_than_the_study_says_is_refused(smoke, tmp_path):
    folder = tiny.write_vision_encoder(tmp_path / "clip", "clip")
    data = study_of(smoke, folder).model_dump(mode="json")
    data["backbone"]["vision_encoder"]["shape"]["layers"] = 4
    study = Study.model_validate_json(json.dumps(data))
    with pytest.raises(AssetError, match=r"has 3 as layers, but .*shape\.layers is 4"):
        load_tower(study, folder)
