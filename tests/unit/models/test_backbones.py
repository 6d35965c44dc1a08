"""What a study says of checkpoints: what is filled in, and what is refused before any job."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from tests.conftest import ROOT
from tests.unit.models import tiny_checkpoints as tiny

from layersight.errors import AssetError, StudyError
from layersight.models.backbones import checkpoint_folder, gated_without_token
from layersight.models.language import load_language_model
from layersight.slices import restore, take
from layersight.study_file import load_study

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VICUNA = {"source": "hub", "id": "lmsys/vicuna-7b-v1.5", "revision": COMMIT}
CLIP = {"source": "hub", "id": "openai/clip-vit-large-patch14-336", "revision": COMMIT}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    tiny.write_language_model(root / "llama", "llama")
    tiny.write_language_model(root / "without_chat", "llama", chat=False)
    tiny.write_vision_encoder(root / "clip", "clip")
    tiny.write_vision_encoder(root / "siglip", "siglip")
    return root


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load the study smoke with other parts of its backbone."""
    monkeypatch.delenv("LAYERSIGHT_CACHE", raising=False)
    data = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
    data = json.loads(json.dumps(data).replace('"1e-3"', "1e-3"))

    def loaded(**parts):
        changed = {**data, "backbone": {**data["backbone"], **parts}}
        changed["assets"] = {"cache": str(tmp_path / "cache")}
        changed.update(parts.pop("study", {}))
        changed["backbone"].pop("study", None)
        (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(changed))
        return load_study(tmp_path / "smoke.yaml")

    return loaded


def folder_of(path, **more):
    return {"source": "folder", "path": str(path)} | more


def test_a_folder_gives_its_sizes_and_jobs_get_them(load, folders):
    study = load(
        language_model=folder_of(folders / "llama"), vision_encoder=folder_of(folders / "clip")
    )
    model, encoder = study.backbone.language_model, study.backbone.vision_encoder
    assert (model.family, model.layers, model.width) == ("llama", tiny.LAYERS, tiny.WIDTH)
    assert (encoder.family, encoder.channels, encoder.tokens) == ("clip", 24, 16)
    assert study.backbone.image_tokens == 16
    part = restore(take(study, "backbone.vision_encoder", "backbone.connector"))
    assert part.backbone.vision_encoder.tokens == 16


def test_a_known_model_of_the_hub_has_its_sizes_before_it_is_fetched(load, tmp_path):
    study = load(language_model=VICUNA, vision_encoder=CLIP, template="v1")
    assert (study.backbone.language_model.layers, study.backbone.language_model.width) == (32, 4096)
    assert study.backbone.image_tokens == 576
    part = study.backbone.language_model.model_dump()
    where = tmp_path / "cache/models/lmsys--vicuna-7b-v1.5-0123456789ab"
    assert checkpoint_folder(part, tmp_path / "cache") == where


def test_what_is_fetched_is_read_in_place_of_the_table(load, folders, tmp_path):
    where = tmp_path / "cache/models/lmsys--vicuna-7b-v1.5-0123456789ab"
    shutil.copytree(folders / "llama", where)
    assert load(language_model=VICUNA).backbone.language_model.layers == tiny.LAYERS


LM, VE = "language_model", "vision_encoder"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({LM: {"source": "hub", "id": "lmsys/vicuna-7b-v1.5"}},
         r"backbone\.language_model\.revision: required: the commit of lmsys/vicuna-7b-v1\.5"),
        ({VE: CLIP | {"revision": "main"}},
         r"backbone\.vision_encoder\.revision: must be a commit of openai/clip.*not 'main'"),
        ({LM: VICUNA | {"id": "someone/unknown"}},
         r"backbone\.language_model\.family: required for someone/unknown, which is not fetched"),
        ({LM: VICUNA | {"family": "qwen2"}, "template": "v1"},
         r"family: is 'qwen2', but lmsys/vicuna-7b-v1\.5 is of the family 'llama'"),
        ({LM: VICUNA}, r"backbone\.template: chat takes .*lmsys/vicuna-7b-v1\.5 has none; take v1"),
        ({LM: "FOLDER/without_chat"}, r"backbone\.template: chat takes .*without_chat has none"),
        ({LM: "FOLDER/nowhere"}, r"language_model\.path: .*nowhere: no such folder"),
        ({LM: "FOLDER/clip"}, r"model_type is 'clip_vision_model', which is no language model"),
        ({VE: "FOLDER/llama"}, r"model_type is 'llama', which is no vision encoder known here"),
        ({VE: "FOLDER/clip", "family": "siglip"}, r"family: is 'siglip', but .*family 'clip'"),
        ({VE: "FOLDER/clip", "select_layer": -4}, r"vision_encoder: select_layer: -4 is none of"),
        ({VE: "FOLDER/siglip", "select_feature": "cls_patch"}, r"siglip has no class token"),
        ({LM: "FOLDER/llama", VE: "FOLDER/clip", "connector": {"kind": "identity"}},
         r"identity carries no 24 channels of the vision encoder into .* width 32; take linear"),
        ({"connector": {"kind": "linear", "queries": 4}}, r"queries: is no key of the connector"),
        ({"connector": {"kind": "qformer", "size": 100}}, r"size: 100 cannot be shared by 8 heads"),
        ({"connector": {"kind": "linaer"}}, r"backbone\.connector\.kind: Input should be"),
    ],
)  # fmt: skip
def test_a_backbone_that_cannot_be_is_refused_with_one_message(load, folders, parts, message):
    made = {}
    rest = {k: v for k, v in parts.items() if k not in (LM, VE, "connector", "template")}
    for key, value in parts.items():
        if key in rest:
            continue
        in_folder = isinstance(value, str) and value.startswith("FOLDER/")
        made[key] = (
            folder_of(folders / value.removeprefix("FOLDER/"), **rest) if in_folder else value
        )
    with pytest.raises(StudyError, match=message) as error:
        load(**made)
    assert len(str(error.value).splitlines()) <= 2


def test_a_stage_with_a_published_template_needs_no_chat_template(load, folders):
    path = folder_of(folders / "without_chat")
    with pytest.raises(StudyError, match=r"tuning\.template: chat takes"):
        load(language_model=path, template="v1", study={
            "tuning": {"steps": 6, "batch_size": 4, "learning_rate": 1e-3, "template": "chat"}
        })  # fmt: skip
    assert load(language_model=path, template="v1").backbone.template == "v1"


def test_sizes_that_are_not_the_checkpoints_are_refused(load, folders):
    shape = {"layers": 5, "width": 32, "intermediate": 64, "query": 32, "key_value": 16,
             "vocabulary": 317, "tied": False}  # fmt: skip
    with pytest.raises(StudyError, match=r"shape\.layers: is 5, but .*llama has 4"):
        load(language_model=folder_of(folders / "llama", shape=shape))


def test_a_gated_model_without_a_token_is_named(load, monkeypatch, tmp_path):
    gemma = {"source": "hub", "id": "google/gemma-2b", "revision": COMMIT}
    data = load(language_model=gemma, template="v1").model_dump()
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    message = gated_without_token(data)
    assert message.startswith("backbone.language_model: google/gemma-2b is gated: ask for access")
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    assert gated_without_token(data) is None
    monkeypatch.delenv("HF_TOKEN")
    assert gated_without_token(load(language_model=VICUNA, template="v1").model_dump()) is None


def test_a_tokenizer_without_padding_gets_some_and_one_without_any_end_is_refused(
    folders, tmp_path
):
    import torch

    folder = shutil.copytree(folders / "llama", tmp_path / "model")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings.pop("pad_token")
    path.write_text(json.dumps(settings))
    _, tokenizer = load_language_model(folder, dtype=torch.float32)
    assert tokenizer.pad_token == tokenizer.eos_token
    settings.pop("eos_token")
    settings.pop("unk_token", None)
    path.write_text(json.dumps(settings))
    with pytest.raises(AssetError, match="no token to pad with"):
        load_language_model(folder, dtype=torch.float32)
