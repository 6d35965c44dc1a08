"""Released models and connectors of the hub: what is fetched, and what is refused then."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file
from tests.unit.data.hub_cache import as_hub_cache
from tests.unit.data.test_hub import COMMIT, NAME
from tests.unit.models import released_checkpoints as rel

from layersight.data.hub import CONNECTOR, fetch_part
from layersight.errors import AssetError, StudyError
from layersight.models.backbones import cache_of, hub_folder
from layersight.models.deltas import load_connector
from layersight.models.released import connector_folder
from layersight.tuning.released import take_connector

HUB = {"source": "hub", "id": NAME, "revision": COMMIT}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The user's own cache of the hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hf"


def variant(**options):
    return {"method": "released", "options": HUB | options}


def folder_of(study):
    return hub_folder(NAME, COMMIT, cache_of(study.model_dump()))


def test_a_released_model_is_fetched_whole_and_compared_with_the_backbone(load, parts, cache):
    study = load(variant=variant())
    as_hub_cache(parts / "kept", cache, NAME, COMMIT)
    fetch_part(study, "variants.pair", folder_of(study))
    assert (folder_of(study) / "model.safetensors").is_file()
    assert (folder_of(study) / "tokenizer.json").is_file()
    load(variant=variant())  # and is read where it lies


def test_what_does_not_fit_is_refused_when_it_is_fetched_and_from_then_on(load, parts, cache):
    study = load(variant=variant())
    as_hub_cache(parts / "next", cache, NAME, COMMIT)
    message = r"variants\.pair\.options\.inputs: .* it cuts a picture into tiles"
    with pytest.raises(AssetError, match=message):
        fetch_part(study, "variants.pair", folder_of(study))
    with pytest.raises(StudyError, match=message):
        load(variant=variant())
    assert load(variant=variant(inputs="text")).variants["pair"].reads_pictures is False


def test_of_a_model_with_a_projector_the_connector_alone_is_fetched(load, tmp_path, cache):
    model = tmp_path / "model"
    model.mkdir()
    settings = {"mm_projector_type": "mlp2x_gelu", "mm_hidden_size": 24, "hidden_size": 32}
    (model / "config.json").write_text(json.dumps(settings))
    torch.save(rel.projector(24), model / "mm_projector.bin")
    as_hub_cache(model, cache, NAME, COMMIT)
    study = load(align={"released": HUB})
    folder = connector_folder(study, cache_of(study.model_dump()))
    assert folder.name.endswith("-connector")
    fetch_part(study, CONNECTOR, folder)
    assert sorted(load_file(folder / "model.safetensors")) == sorted(rel.projector(24))
    assert not list(folder.glob("*.bin"))
    take_connector(study, checkpoint=folder, out=tmp_path / "aligned")
    weight = rel.projector(24)["model.mm_projector.0.weight"]
    assert torch.equal(load_connector(tmp_path / "aligned").first.weight, weight)
    other = {"kind": "linear", "normalise": False}
    with pytest.raises(StudyError, match=r"is of the kind mlp2x_gelu, but the study's .* linear"):
        load(align={"released": HUB}, backbone={"connector": other})


def test_a_connector_of_a_model_that_is_a_subject_too_is_fetched_with_it(load):
    study = load(variant=variant(), align={"released": HUB})
    cache = cache_of(study.model_dump())
    assert connector_folder(study, cache) == hub_folder(NAME, COMMIT, cache)


def test_without_a_network_it_is_said_how_to_bring_the_model_here(load, cache):
    study = load(variant=variant())
    message = rf"could not be fetched from the hub .*hf download {NAME} --revision {COMMIT}"
    with pytest.raises(AssetError, match=message):
        fetch_part(study, "variants.pair", folder_of(study))
    assert not Path(folder_of(study)).exists()
