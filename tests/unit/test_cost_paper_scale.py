"""Predictions against what others have published of training and storage at paper scale."""

from __future__ import annotations

import json

import pytest
from tests.conftest import ROOT
from tests.unit.test_cost import study_with

from layersight import cost
from layersight.activations.budget import Counts, ModelShape, activation_bytes
from layersight.cost.summary import StageRow
from layersight.errors import StudyError
from layersight.study import Activations, Study
from layersight.study_file import load_study

STUDIES = ROOT / "config/studies"
HOUR = 3600.0
VICUNA_7B = ModelShape(layers=32, width=4096, heads_width=4096)


@pytest.fixture(scope="module", params=["7b", "13b"])
def llava(request) -> tuple[str, Study]:
    return request.param, load_study(STUDIES / f"llava-1.5-{request.param}.yaml")


def test_stages_take_the_hours_that_llava_took_on_eight_a100(llava):
    """README of LLaVA: 3.5 and 5.5 hours of stage 1, 10 and 20 of stage 2, 7B and 13B."""
    size, study = llava
    stage_1, stage_2 = {"7b": (3.5, 10.0), "13b": (5.5, 20.0)}[size]
    assert study.compute.devices == 8
    assert cost.align(study).seconds == pytest.approx(stage_1 * HOUR, rel=0.25)
    assert cost.tune(study, "full").seconds == pytest.approx(stage_2 * HOUR, rel=0.25)


def test_the_steps_are_those_of_one_epoch(llava):
    _, study = llava
    # 558,128 / 256 and 665,298 / 128.
    assert (study.align.steps, study.tuning.steps) == (2181, 5198)


def test_ten_blocks_take_the_share_of_the_time_that_was_published():
    """arXiv:2606.03871: blocks 6 to 16 of LLaVA-7B alone take 86.1 % of the time of all."""
    study = load_study(STUDIES / "abstraction.yaml")
    part, whole = (cost.tune(study, name).seconds for name in ("full-6-16", "full"))
    assert part / whole == pytest.approx(0.861, abs=0.05)


def stored(tokens_each: float | None) -> float:
    """Bytes of 2,500 inputs of a 7B model in float16, in the layers 1 to 32."""
    every = tokens_each is not None
    streams = ["last", "all"] if every else ["last"]
    settings = Activations.model_validate({"streams": streams, "dtype": "float16"})
    counts = Counts(2500, 2500, 2500, 2500, 2500 * (tokens_each or 1))
    found = activation_bytes(settings, VICUNA_7B, counts)["all" if every else "last"]
    assert found.layers == 33
    return found.bytes * 32 / 33


def test_activations_take_what_2500_inputs_of_a_7b_model_take():
    """0.66 GB of last tokens, and 444 GB of all tokens (an image of 576 and a hundred of text)."""
    assert stored(None) == pytest.approx(0.66e9, rel=0.01)
    assert stored(576 + 100) == pytest.approx(444e9, rel=0.01)


def test_the_cost_of_a_probe_set_is_what_its_vectors_take():
    study = load_study(STUDIES / "llava-1.5-7b.yaml")
    one = study_with(
        study,
        activations__streams=["last"],
        probes__sets=["visual_questions", "pair_images", "pair_texts"],
    )
    items = cost.sizes.probe_items(one)
    expected = 33 * items * 4096 * 2 / 1e6
    found = cost.activations(one, "aligned", ["visual_questions"]).disk_mb
    assert found == pytest.approx(expected, rel=0.05)


def test_shares_of_a_model_fit_on_a_gpu_that_all_of_it_does_not_fit_on(llava):
    _, study = llava
    whole = study_with(study, compute__parallel="ddp")
    parameters = cost.parameters(study)
    full, single = cost.tune(study, "full"), cost.tune(whole, "full")
    # Weights, gradients and two moments in float32.
    assert single.on_one_gpu_mb > 16 * parameters / 1e6 > 80_000
    assert 16 * parameters / 8 / 1e6 < full.on_one_gpu_mb < 80_000
    # Before it is divided, every process holds all of it.
    assert full.memory_mb > 8 * 4 * parameters / 1e6


def test_what_learns_is_stored_in_float32_whatever_the_precision(llava):
    _, study = llava
    full = cost.tune(study, "full").disk_mb
    assert full == pytest.approx(4 * cost.parameters(study) / 1e6, rel=0.01)


@pytest.mark.parametrize("key", ["disk_gb", "gpu_hours"])
def test_a_study_over_its_quota_is_refused_with_both_numbers(key):
    study = load_study(STUDIES / "llava-1.5-7b.yaml")
    jobs = [("tune", cost.tune(study, name), 16, 8, True) for name in study.variants]
    totals = cost.total(cost.summarise(jobs, study))
    assert isinstance(totals, StageRow) and totals.gpu_seconds > 500 * HOUR
    limited = study_with(study, **{f"quota__{key}": 20.0})
    with pytest.raises(StudyError, match=rf"quota\.{key}: .* predicted, 20 allowed"):
        cost.check_quota(limited, totals)
    cost.check_quota(study_with(study, **{f"quota__{key}": 5000.0}), totals)


def test_text_of_conversations_from_elsewhere_costs_time_and_memory():
    study = load_study(STUDIES / "llava-1.5-7b.yaml")
    data = json.loads(study.tuning.model_dump_json())["data"]
    short = study_with(study, tuning__data=data | {"text_tokens": 20})
    assert cost.tune(short, "full").seconds < 0.8 * cost.tune(study, "full").seconds
    assert cost.tune(short, "full").on_one_gpu_mb < cost.tune(study, "full").on_one_gpu_mb
