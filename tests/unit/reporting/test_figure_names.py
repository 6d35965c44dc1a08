from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import ROOT

from layersight import artefacts
from layersight.reporting.catalogue import FIGURES
from layersight.reporting.figure_names import figure_names, tables_of
from layersight.study import Study
from layersight.study_file import load_study

ON_REQUEST = {"attention", "attention_parameters"}


def chosen(**overrides: Any) -> list[str]:
    return figure_names(load_study(ROOT / "config/studies/smoke.yaml", overrides))


def test_a_study_that_leaves_nothing_out_has_every_figure_in_the_report_s_order(
    attentive: Study,
) -> None:
    assert figure_names(attentive) == [entry.name for entry in FIGURES]


def test_attention_has_figures_and_tables_only_where_it_is_asked_for(
    smoke: Study, attentive: Study
) -> None:
    assert set(figure_names(attentive)) - set(figure_names(smoke)) == ON_REQUEST
    assert tables_of(smoke) == artefacts.TABLES
    assert set(tables_of(attentive)) - set(tables_of(smoke)) == {"attention", "attention_summary"}


def test_every_figure_is_drawn_from_tables_that_the_study_has(
    smoke: Study, attentive: Study
) -> None:
    for study in (smoke, attentive):
        asked = [entry for entry in FIGURES if entry.name in figure_names(study)]
        assert {name for entry in asked for name in entry.tables} <= set(tables_of(study))


@pytest.mark.parametrize(
    ("overrides", "lost"),
    [
        ({"benchmarks": {"tasks": ["kind_image", "naming"]}}, {"presence"}),
        ({"patching": {"sweeps": [{"kind": "cumulative", "stride": 2}]}}, {"recovery_sliding"}),
        (
            {"activations": {"streams": ["last"]}},
            {"overlap_tuned_means", "intrinsic_dimension_means"},
        ),
        (
            {"activations": {"streams": ["image_mean"]}},
            {
                "overlap_tuned", "intrinsic_dimension", "overlap_modalities", "cka_modalities",
                "cosine_modalities", "label_overlap",
            },
        ),
        ({"probes": {"sets": ["pair_images", "pair_texts"]}}, set()),
    ],
)  # fmt: skip
def test_what_a_study_leaves_out_has_no_figure(overrides: dict[str, Any], lost: set[str]) -> None:
    assert {entry.name for entry in FIGURES} - set(chosen(**overrides)) - ON_REQUEST == lost
