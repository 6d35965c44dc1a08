"""Weights that are not what they should be: refused by name, before anything is computed."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import CHANNELS

from layersight.data.features import FeatureStore
from layersight.errors import AssetError, DataError, UserError
from layersight.models.connectors import Connector
from layersight.models.deltas import apply_delta, load_connector, save_connector, save_delta
from layersight.models.language import convert_gguf, load_language_model
from layersight.models.vision import load_efficientnet_lite0
from layersight.models.vlm import VisionLanguageModel
from layersight.tuning import methods

LAST_NORM = "model.norm.weight"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def load(folder: Path):
    return load_language_model(folder, dtype=torch.float32)


def refusal(folder: Path, kind: type[UserError] = AssetError) -> str:
    with pytest.raises(kind) as error:
        load(folder)
    assert str(folder) in str(error.value)
    return str(error.value)


def edit_tensors(folder: Path, **changes: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, value in changes.items():
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value
    save_file(tensors, path, metadata={"format": "pt"})


def torch_pickle() -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer)
    return buffer.getvalue()


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert "no such folder" in refusal(tmp_path / "none")


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": "nonsense"}'])
def test_a_config_that_says_nothing_useful_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    assert "no loadable language model" in refusal(folder)


def test_a_config_that_asks_for_code_of_its_own_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "mine"
    config["auto_map"] = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('ran')")
    assert "no loadable language model" in refusal(folder)


def test_a_missing_tensor_is_named(folder):
    edit_tensors(folder, **{LAST_NORM: None})
    assert f"the tensor {LAST_NORM} is missing" in refusal(folder)


def test_an_additional_tensor_is_named(folder):
    edit_tensors(folder, **{"model.layers.9.extra.weight": torch.zeros(2)})
    assert "the tensor model.layers.9.extra.weight belongs to nothing" in refusal(folder)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder):
    edit_tensors(folder, **{LAST_NORM: torch.ones(31)})
    message = refusal(folder)
    assert LAST_NORM in message and "(31,)" in message and "(32,)" in message


def test_weights_that_are_a_pickle_alone_are_refused_unread(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    assert "pytorch_model.bin: is a pickle" in refusal(folder)
    assert not (tmp_path / "ran").exists()


def test_no_weights_at_all_are_told(folder):
    (folder / "model.safetensors").unlink()
    assert "has no *.safetensors" in refusal(folder)


@pytest.mark.parametrize("kind", ["pickle", "zip"])
def test_a_pickle_that_calls_itself_safetensors_is_refused_unread(folder, tmp_path, kind):
    evil = pickle.dumps(Evil(tmp_path / "ran"))
    if kind == "zip":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("archive/data.pkl", evil)
        evil = buffer.getvalue()
    (folder / "model.safetensors").write_bytes(evil)
    assert "is no safetensors file but a pickle" in refusal(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("length", [0, 4, 400, -1])
def test_truncated_weights_are_named(folder, length):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    assert "model.safetensors: is no whole safetensors file" in refusal(folder)


@pytest.mark.parametrize("text", [None, "", "{}"])
def test_a_folder_without_a_tokenizer_is_refused(folder, text):
    for path in folder.glob("*token*"):
        path.unlink()
    if text is not None:
        (folder / "tokenizer.json").write_text(text)
    assert "tokenizer" in refusal(folder)


def test_the_context_is_that_of_the_model(folder):
    assert load(folder)[1].model_max_length == 512


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + bytes(40), b"nonsense" * 9])
def test_a_damaged_gguf_file_is_named_and_nothing_is_written(tmp_path, content):
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(AssetError, match="m.gguf"):
        convert_gguf(tmp_path / "m.gguf", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_vision_weights_that_would_run_code_are_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(Evil(tmp_path / "ran"), path)
    with pytest.raises(AssetError, match=r"w\.pth: not the weights of EfficientNet-Lite0"):
        load_efficientnet_lite0(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", torch_pickle()[:200]])
def test_damaged_vision_weights_are_named(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(AssetError, match=r"w\.pth: not the weights"):
        load_efficientnet_lite0(tmp_path / "w.pth")


def test_vision_weights_that_are_a_list_are_named(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "w.pth")
    with pytest.raises(AssetError, match=r"w\.pth: not the weights"):
        load_efficientnet_lite0(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"mean": torch.zeros(3)}, "has no tensor 'second.bias'"),
        ({"mean": torch.tensor(0.0), "second.bias": torch.zeros(2)}, "not a readable connector"),
        ({"mean": torch.zeros(3), "second.bias": torch.zeros(2)}, "first.weight"),
    ],
)
def test_a_connector_without_its_tensors_is_named(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "connector.safetensors")
    with pytest.raises(DataError) as error:
        load_connector(tmp_path)
    assert "connector.safetensors" in str(error.value) and message in str(error.value)


def test_a_connector_of_another_language_model_is_refused(folder):
    with pytest.raises(DataError, match="width 48, but the language model reads width 32"):
        VisionLanguageModel(load(folder)[0], Connector(CHANNELS, 48))


def test_a_connector_of_another_vision_encoder_is_refused(folder, batch):
    model = VisionLanguageModel(load(folder)[0], Connector(CHANNELS + 1, 32))
    with pytest.raises(DataError, match="12 channels, but the connector reads 13"):
        model.embed(batch)


@pytest.fixture
def tuned(folder: Path, tmp_path: Path) -> Path:
    """A variant's folder with a LoRA adapter."""
    lora = methods.method("lora")
    stage = tmp_path / "stage"
    stage.mkdir()
    save_delta(lora.apply(load(folder)[0], lora.Options(r=2), None), stage)
    save_connector(Connector(CHANNELS, 32), stage)
    return stage


def refused_delta(folder: Path, stage: Path) -> str:
    with pytest.raises(UserError) as error:
        apply_delta(load(folder)[0], stage)
    assert str(stage) in str(error.value)
    return str(error.value)


def test_a_whole_adapter_is_taken(folder, tuned):
    assert apply_delta(load(folder)[0], tuned).peft_config


def test_an_adapter_that_lacks_a_tensor_is_refused(folder, tuned):
    path = tuned / "adapter/adapter_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[3]
    del tensors[name]
    save_file(tensors, path)
    assert f"the tensor {name} is missing" in refused_delta(folder, tuned)


def test_an_adapter_with_a_tensor_too_many_is_refused(folder, tuned):
    path = tuned / "adapter/adapter_model.safetensors"
    save_file(load_file(path) | {"base_model.model.more": torch.zeros(1)}, path)
    assert "has no place for the tensor base_model.model.more" in refused_delta(folder, tuned)


def test_an_adapter_of_another_shape_is_refused(folder, tuned):
    path = tuned / "adapter/adapter_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = torch.zeros(2, 5)
    save_file(tensors, path)
    assert "does not fit the base model" in refused_delta(folder, tuned)


def test_an_adapter_that_is_a_pickle_is_not_loaded(folder, tuned, tmp_path):
    (tuned / "adapter/adapter_model.safetensors").unlink()
    evil = pickle.dumps(Evil(tmp_path / "ran"))
    (tuned / "adapter/adapter_model.bin").write_bytes(evil)
    assert "adapter_model.safetensors: no such file" in refused_delta(folder, tuned)
    (tuned / "adapter/adapter_model.safetensors").write_bytes(evil)
    assert "is no safetensors file but a pickle" in refused_delta(folder, tuned)
    assert not (tmp_path / "ran").exists()


def test_an_adapter_without_its_configuration_is_refused(folder, tuned):
    (tuned / "adapter/adapter_config.json").unlink()
    assert "has no adapter_config.json" in refused_delta(folder, tuned)


def test_a_variant_whose_delta_is_gone_is_not_taken_for_the_base_model(folder, tmp_path):
    stage = tmp_path / "stage"
    stage.mkdir()
    (stage / "manifest.json").write_text('{"trainable_language_model": 7}')
    assert "7 parameters of the language model learned" in refused_delta(folder, stage)
    (stage / "manifest.json").write_text('{"trainable_language_model": 0}')
    base = load(folder)[0]
    assert apply_delta(base, stage) is base


def test_damaged_image_features_are_named(tmp_path, feature_store):
    path = tmp_path / "features.safetensors"
    feature_store.save(path)
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-4], whole.replace(b'[\\"a', b"}}}}")):
        path.write_bytes(content)
        with pytest.raises(DataError, match="features.safetensors: not readable image features"):
            FeatureStore.load(path)
    save_file({"features": torch.zeros(2, 3, 4)}, path, metadata={"image_ids": '["a"]'})
    with pytest.raises(DataError, match=r"\(2, 3, 4\) for 1 pictures"):
        FeatureStore.load(path)
