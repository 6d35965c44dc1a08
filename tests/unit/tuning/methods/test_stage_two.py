"""Stage 2 with every method, from files to files, killed in its midst as well."""

from __future__ import annotations

import json

import pytest
import torch
from tests.conftest import CHANNELS
from tests.unit.tuning.killing import (
    Counter,
    Killed,
    contents,
    write_conversations,
    write_features,
)

from layersight.models.connectors import Connector
from layersight.models.deltas import save_connector
from layersight.models.subjects import load_subject
from layersight.models.vlm import VisionLanguageModel
from layersight.storage.manifest import read_manifest
from layersight.study import Study
from layersight.tuning.stages import tune

STEPS = 3
VARIANTS = {
    "adapter": {"method": "adapter", "options": {"bottleneck": 4, "dropout": 0.3}},
    "ia3": {"method": "ia3", "layers": [1, 3]},
    "mores": {
        "method": "mores",
        "options": {"rank": 2, "variant": "code", "compat_text_anchor": True},
    },
    "oft": {"method": "oft", "options": {"r": 4}},
    "peft": {
        "method": "peft",
        "options": {"config": "VeraConfig", "arguments": {"r": 4, "target_modules": ["q_proj"]}},
    },
    "reft": {"method": "reft", "layers": [[0, 1], [2, 4]], "options": {"rank": 2}},
    "qlora": {"method": "qlora", "options": {"r": 2, "lora_alpha": 4}},
}


@pytest.fixture
def stage_two(smoke, tiny_folder, feature_store, tmp_path):
    data = smoke.model_dump(mode="json")
    data["tuning"] |= {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-2, "weight_decay": 0.1}
    data["variants"] = VARIANTS
    study = Study.model_validate_json(json.dumps(data))
    (tmp_path / "aligned").mkdir()
    torch.manual_seed(0)
    save_connector(Connector(CHANNELS, 32), tmp_path / "aligned")
    files = {
        "language_model": tiny_folder,
        "aligned": tmp_path / "aligned",
        "conversations": write_conversations(tmp_path / "train.parquet", 4 * STEPS),
        "features": write_features(feature_store, tmp_path / "features.safetensors"),
    }

    def run(variant, out, work=None):
        tune(study, variant=variant, seed=0, out=out, work=work, checkpoint_seconds=0.0, **files)

    run.study = study
    return run


@pytest.mark.parametrize("variant", VARIANTS)
def test_stage_two_killed_after_a_step_ends_in_the_same_bytes_and_loads_as_a_subject(
    stage_two, tiny_folder, batch, tmp_path, monkeypatch, variant
):
    if variant == "qlora":
        pytest.importorskip("bitsandbytes")
    stage_two(variant, tmp_path / "undisturbed")
    steps = Counter(VisionLanguageModel.loss)
    monkeypatch.setattr(VisionLanguageModel, "loss", steps)
    steps.die_after(2)
    with pytest.raises(Killed):
        stage_two(variant, tmp_path / "out", tmp_path / "work")
    stage_two(variant, tmp_path / "out", tmp_path / "work")
    assert steps.calls == STEPS
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
    subject = load_subject(
        stage_two.study, f"{variant}/seed-0", language_model=tiny_folder, stage=tmp_path / "out"
    )
    learned = read_manifest(tmp_path / "out" / "manifest.json")["trainable_language_model"]
    assert learned > 0
    assert not any(p.requires_grad for p in subject.model.parameters())
    with torch.inference_mode():
        assert torch.isfinite(subject.model.last_logits(batch)).all()
