"""Tiny checkpoints of a released pair, and the study smoke on them."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.conftest import ROOT
from tests.unit.models import released_checkpoints as rel
from tests.unit.models import tiny_checkpoints as tiny

from layersight.study_file import load_study


@pytest.fixture(scope="session")
def parts(tmp_path_factory):
    """Base, vision encoder, a LLaVA that keeps it, one that tuned it too, a projector, others."""
    root = tmp_path_factory.mktemp("released")
    rel.write_base(root / "base")
    rel.write_base(root / "qwen2", "qwen2")
    rel.write_base(root / "shallow", num_hidden_layers=3)
    tiny.write_vision_encoder(root / "clip", "clip")
    rel.write_llava(root / "kept", vision=root / "clip")
    rel.write_llava(root / "tuned")
    rel.write_llava(root / "halves", vision=root / "clip")
    halves = {
        name: tensor.half() for name, tensor in load_file(root / "halves/model.safetensors").items()
    }
    save_file(halves, root / "halves/model.safetensors", metadata={"format": "pt"})
    rel.write_llava(root / "two_layers", changes={"vision_feature_layer": [-2, -1]})
    rel.write_other(root / "next", "llava_next")
    (root / "projector").mkdir()
    torch.save(rel.projector(24), root / "projector/mm_projector.bin")
    return root


@pytest.fixture
def load(tmp_path, parts, monkeypatch):
    """Load the study smoke on the tiny backbone, with a released pair."""
    monkeypatch.delenv("LAYERSIGHT_CACHE", raising=False)
    data = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
    data = json.loads(json.dumps(data).replace('"1e-3"', "1e-3"))

    def loaded(kind="kept", *, base="base", variant=None, connector="projector", **study):
        folder = {"source": "folder"}
        options = folder | {"path": str(parts / kind)}
        changed = data | {
            "assets": {"cache": str(tmp_path / "cache")},
            "concepts": data["concepts"] | {"image_size": tiny.SIDE},
            "backbone": {
                "language_model": folder | {"path": str(parts / base)},
                "vision_encoder": folder | {"path": str(parts / "clip")},
                "connector": {"normalise": False},
            },
            "align": {"released": folder | {"path": str(parts / connector)}},
            "variants": {"pair": variant or {"method": "released", "options": options}},
        }
        for key, value in study.items():
            changed[key] = {**changed[key], **value} if key == "backbone" else value
        (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(changed))
        return load_study(tmp_path / "smoke.yaml")

    return loaded
