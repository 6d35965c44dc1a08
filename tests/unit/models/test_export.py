"""Subjects of a study written as LLaVA checkpoints, and read by transformers."""

from __future__ import annotations

import json

import pytest
import torch
from tests.unit.models import tiny_checkpoints as tiny
from tests.unit.models.test_llava_hf import both_inputs
from tests.unit.models.test_vision_families import images_of
from tests.unit.tuning.killing import write_conversations
from transformers import LlavaForConditionalGeneration

from layersight.data.features import FeatureStore
from layersight.errors import DataError
from layersight.models.backbones import resolve
from layersight.models.deltas import apply_vision, load_connector
from layersight.models.export import export
from layersight.models.stages import compute_features, load_tower
from layersight.models.subjects import load_subject
from layersight.models.vlm import VisionLanguageModel
from layersight.study import Study
from layersight.tuning.stages import align, tune


def study_of(smoke, root, **backbone):
    data = smoke.model_dump(mode="json")
    data["concepts"]["image_size"] = tiny.SIDE
    data["backbone"] |= {
        "language_model": {"source": "folder", "path": str(root / "llama")},
        "vision_encoder": {"source": "folder", "path": str(root / "clip")},
    } | backbone
    for stage in ("align", "tuning"):
        data[stage] |= {"steps": 2, "batch_size": 4, "learning_rate": 1e-2, "warmup": 0.0}
    data["variants"] = {
        "full": {"method": "full", "train_vision": 1},
        "lora": {"method": "lora", "options": {"r": 2, "lora_alpha": 4}},
        "mores": {"method": "mores"},
    }
    return Study.model_validate_json(json.dumps(resolve(data)))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    tiny.write_language_model(folder / "llama", "llama")
    tiny.write_vision_encoder(folder / "clip", "clip")
    images_of(folder / "images.parquet", tiny.pictures())
    write_conversations(folder / "train.parquet", 8)
    return folder


def features_of(study, root, out):
    """Features of three pictures, under the names that the training conversations have."""
    compute_features(study, images=root / "images.parquet", weights=root / "clip", out=out)
    FeatureStore(list("abc"), FeatureStore.load(out).features).save(out)
    return out


def trained(study, variant, root, out):
    files = {
        "language_model": root / "llama",
        "conversations": root / "train.parquet",
        "features": features_of(study, root, out / "features.safetensors"),
    }
    align(study, out=out / "aligned", **files)
    if variant == "aligned":
        return out / "aligned", "aligned"
    if study.variants[variant].train_vision != "none":
        rows = images_of(out / "images.parquet", tiny.pictures(), list("abc"))
        files |= {"images": rows, "vision_weights": root / "clip"}
    tune(study, variant=variant, seed=0, aligned=out / "aligned", out=out / variant, **files)
    return out / variant, f"{variant}/seed-0"


@pytest.mark.parametrize("variant", ["aligned", "full", "lora"])
def test_an_exported_subject_gives_its_own_logits_in_transformers(smoke, root, tmp_path, variant):
    study = study_of(smoke, root)
    stage, name = trained(study, variant, root, tmp_path)
    places = {"language_model": root / "llama", "stage": stage}
    export(study, name, **places, vision=root / "clip", out=tmp_path / "out")
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    subject = load_subject(study, name, **places)
    tower = apply_vision(load_tower(study, root / "clip"), stage)
    model = VisionLanguageModel(subject.model.language_model, subject.model.connector, tower)
    inputs, batch = both_inputs(tmp_path / "out", tiny.pictures())
    with torch.inference_mode():
        expected = theirs(**inputs).logits[:, -1]
        own = model.eval().last_logits(batch)
    assert own.std() > 0.1
    assert torch.allclose(own, expected[:, : own.shape[1]], atol=1e-5)


def test_an_adapter_that_is_no_change_of_weights_is_refused(smoke, root, tmp_path):
    study = study_of(smoke, root)
    stage, name = trained(study, "mores", root, tmp_path)
    with pytest.raises(DataError, match=r"mores/seed-0: its adapter cannot be merged"):
        export(study, name, language_model=root / "llama", stage=stage, vision=root / "clip",
               out=tmp_path / "out")  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("normalise", [True, False])
def test_stage_1_makes_the_connector_that_the_study_asks_for(smoke, root, tmp_path, normalise):
    asked = {"kind": "qformer", "queries": 3, "heads": 2, "size": 16, "normalise": normalise}
    study = study_of(smoke, root, connector=asked)
    assert study.backbone.image_tokens == 3
    stage, name = trained(study, "aligned", root, tmp_path)
    connector = load_connector(stage)
    assert (connector.kind, connector.tokens(16)) == ("qformer", 3)
    assert bool(connector.mean.any()) == normalise
    subject = load_subject(study, name, language_model=root / "llama", stage=stage)
    assert subject.model.image_tokens(16) == 3
    with pytest.raises(DataError, match="mlp2x_gelu"):
        export(study, name, language_model=root / "llama", stage=stage, vision=root / "clip",
               out=tmp_path / "out")  # fmt: skip
