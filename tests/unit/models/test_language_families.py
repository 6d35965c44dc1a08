"""Language models of every family, from their own files through all that a study does with one."""

from __future__ import annotations

import json

import pytest
import torch
from tests.conftest import CHANNELS, IMAGE_TOKENS, QUESTIONS
from tests.unit.models import tiny_checkpoints as tiny
from tests.unit.tuning.killing import write_conversations, write_features
from transformers import AutoModelForCausalLM

from layersight.activations.capture import capture
from layersight.data.collation import collate
from layersight.data.conversation import tokenize
from layersight.interventions.hybrid import Hybrid, run_hybrids
from layersight.models.backbones import resolve
from layersight.models.blocks import decoder_blocks, final_norm
from layersight.models.connectors import Connector
from layersight.models.language import load_language_model
from layersight.models.subjects import load_subject
from layersight.models.vlm import VisionLanguageModel
from layersight.study import Study
from layersight.tuning.stages import align, tune

STREAMS = ["last", "image_mean", "text_mean"]


@pytest.fixture(scope="module", params=tiny.LANGUAGE)
def folder(request, tmp_path_factory):
    return tiny.write_language_model(tmp_path_factory.mktemp(request.param), request.param)


def visual_batch(tokenizer, store, answer=None):
    turns = [] if answer is None else [{"from": "gpt", "value": answer}]
    rows = [
        tokenize([{"from": "human", "value": q}, *turns], tokenizer, image_tokens=IMAGE_TOKENS)
        for q in QUESTIONS
    ]
    return collate(rows, list("abc"), store, padding="left", pad_token=tokenizer.pad_token_id)


def study_of(smoke, folder):
    data = smoke.model_dump(mode="json")
    data["backbone"]["language_model"] = {"source": "folder", "path": str(folder)}
    for stage in ("align", "tuning"):
        data[stage] |= {"steps": 1, "batch_size": 4, "learning_rate": 1e-2, "warmup": 0.0}
    data["variants"] = {
        "full": {"method": "full"},
        "lora": {"method": "lora", "options": {"r": 2, "lora_alpha": 4}},
    }
    return Study.model_validate_json(json.dumps(resolve(data)))


@torch.inference_mode()
def test_it_computes_what_transformers_computes(folder, feature_store):
    base, tokenizer = load_language_model(folder, dtype=torch.float32)
    torch.manual_seed(0)
    model = VisionLanguageModel(base, Connector(CHANNELS, tiny.WIDTH)).eval()
    batch = visual_batch(tokenizer, feature_store)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    given = {
        "inputs_embeds": model.embed(batch),
        "attention_mask": batch.attention_mask,
        "position_ids": batch.positions,
    }
    expected = theirs(**given, output_hidden_states=True)
    assert expected.logits[:, -1].std() > 0.05
    assert torch.allclose(model.last_logits(batch), expected.logits[:, -1], atol=1e-5)
    found, pool = capture(model, batch, STREAMS)
    read = found["residual"].pooled
    assert read.shape[0] == tiny.LAYERS + 1
    hidden = list(expected.hidden_states)
    last = model.hidden(batch)
    for layer in range(tiny.LAYERS):
        assert torch.allclose(read[layer], pool(hidden[layer]), atol=1e-4), layer
    # The last of transformers' hidden states is behind the final norm.
    assert torch.allclose(final_norm(base)(read[tiny.LAYERS, 0]), last[:, -1], atol=1e-5)


def test_it_is_aligned_tuned_measured_and_patched(folder, feature_store, smoke, tmp_path):
    study = study_of(smoke, folder)
    files = {
        "language_model": folder,
        "conversations": write_conversations(tmp_path / "train.parquet", 4),
        "features": write_features(feature_store, tmp_path / "features.safetensors"),
    }
    align(study, out=tmp_path / "aligned", **files)
    subjects = {}
    aligned = tmp_path / "aligned"
    subjects["aligned"] = load_subject(study, "aligned", language_model=folder, stage=aligned)
    batch = visual_batch(subjects["aligned"].tokenizer, feature_store)
    for variant in study.variants:
        out = tmp_path / variant
        tune(study, variant=variant, seed=0, aligned=aligned, out=out, **files)
        subjects[variant] = load_subject(
            study, f"{variant}/seed-0", language_model=folder, stage=out
        )
    base = subjects["aligned"].model
    before = capture(base, batch, STREAMS)[0]["residual"].pooled
    for variant in study.variants:
        tuned = subjects[variant].model
        assert len(decoder_blocks(tuned.language_model)) == study.backbone.language_model.layers
        after = capture(tuned, batch, STREAMS)[0]["residual"].pooled
        assert not torch.allclose(before[-1], after[-1])
        none, everything, some = run_hybrids(
            base,
            tuned,
            batch,
            [Hybrid(0, 0), Hybrid(0, tiny.LAYERS, "donor", "donor"), Hybrid(1, 3)],
        )
        assert torch.equal(none, base.last_logits(batch))
        assert torch.equal(everything, tuned.last_logits(batch))
        assert not torch.equal(some, none) and not torch.equal(some, everything)
