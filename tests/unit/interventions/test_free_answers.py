"""Patching where answers are free: hybrids generate, and are what they claim to be."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.conftest import tiny_model
from tests.unit.tuning.killing import write_features

from layersight.benchmarks.questions import generate
from layersight.data.schemas import BENCHMARK
from layersight.interventions.hybrid import Hybrid, assembled, run_hybrids
from layersight.interventions.items import ITEMS
from layersight.interventions.recovery import recovery_table
from layersight.interventions.sweep import plan, run_sweep
from layersight.models.blocks import decoder_blocks
from layersight.models.subjects import Subject
from layersight.storage.manifest import read_manifest
from layersight.storage.tables import read_table

WINDOWS = [
    Hybrid(0, 0), Hybrid(0, 4, "donor", "donor"), Hybrid(0, 0, "donor"), Hybrid(1, 3), Hybrid(0, 4),
]  # fmt: skip


@pytest.fixture
def subjects(tiny_folder, tokenizer):
    return (
        Subject("aligned", tiny_model(tiny_folder, 1), tokenizer),
        Subject("full/seed-0", tiny_model(tiny_folder, 2, noise=0.1), tokenizer),
    )


@pytest.mark.parametrize("hybrid", WINDOWS, ids=str)
def test_the_first_token_of_an_answer_is_that_of_the_hybrids_logits(subjects, batch, hybrid):
    target, donor = (subject.model for subject in subjects)
    (logits,) = run_hybrids(target, donor, batch, [hybrid])
    before = [id(block) for block in decoder_blocks(target.language_model)]
    with torch.inference_mode(), assembled(target, donor, batch, hybrid) as (model, inputs):
        own = model.language_model.get_decoder()(
            inputs_embeds=inputs, attention_mask=batch.attention_mask, use_cache=False,
            position_ids=batch.positions,
        )  # fmt: skip
        assert torch.allclose(model.head(own.last_hidden_state[:, -1]), logits, atol=1e-5)
    assert [id(block) for block in decoder_blocks(target.language_model)] == before


def test_patching_nothing_and_everything_gives_the_answers_of_the_models_themselves(
    subjects, batch
):
    target, donor = (subject.model for subject in subjects)
    for hybrid, own in ((WINDOWS[0], target), (WINDOWS[1], donor)):
        with assembled(target, donor, batch, hybrid) as (model, inputs):
            said = generate(model, batch, subjects[0], 5, inputs.detach())
        assert said == generate(own, batch, subjects[0], 5)
    apart = [generate(model, batch, subjects[0], 5) for model in (target, donor)]
    assert apart[0] != apart[1]  # else nothing has been shown


def test_blocks_are_given_back_after_an_error(subjects, batch):
    target, donor = (subject.model for subject in subjects)
    before = [id(block) for block in decoder_blocks(target.language_model)]
    with pytest.raises(RuntimeError), assembled(target, donor, batch, Hybrid(0, 2)):
        raise RuntimeError
    assert [id(block) for block in decoder_blocks(target.language_model)] == before


@pytest.mark.parametrize("shown", [True, False])
def test_a_sweep_scores_generated_answers_and_has_no_margin(
    smoke, subjects, feature_store, tmp_path, shown
):
    said = "<image>\nWhich?" if shown else "Which?"
    rows = [
        {
            "item_id": f"discs/{n}", "split": "all", "condition": "all", "concept": f"{n}",
            "kind": "colour", "subgroup": "red", "image_id": "abc"[n] if shown else None,
            "cluster": f"{n}", "conversations": [{"from": "human", "value": said}], "choices": [],
            "answer": "red", "references": ["red"], "chance": 0.0, "majority": 1.0,
        }
        for n in range(3)
    ]  # fmt: skip
    benchmark = tmp_path / "discs.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=BENCHMARK), benchmark)
    patching = smoke.patching.model_copy(update={"split": "discs", "items": 3})
    study = smoke.model_copy(update={"patching": patching})
    out = tmp_path / "items.parquet"
    features = write_features(feature_store, tmp_path / "features.safetensors")
    run_sweep(
        study, *subjects, benchmark=benchmark, features=features, tuned_features=features,
        max_new_tokens=3, out=out,
    )  # fmt: skip
    table = read_table(out, ITEMS).to_pandas()
    assert len(table) == 2 * len(plan(study, 4)) * 3
    assert set(table["benchmark"]) == {"discs"} and table["logit_margin"].isna().all()
    settings = read_manifest(tmp_path / "manifest.json")["settings"]
    assert settings["evaluation"]["max_new_tokens"] == 3
    assert set(recovery_table(table, resamples=100, seed=0)["metric"]) == {"accuracy"}
