from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import ROOT

from layersight import artefacts
from layersight.reporting.catalogue import FIGURES
from layersight.reporting.figure_names import DRAWN_FROM, figure_names, tables_of
from layersight.study import Study
from layersight.study_file import load_study

ON_REQUEST = {"attention", "attention_parameters"}
NAMES = [entry.name for entry in FIGURES]
TABLES = {name: f"tables/{name}.parquet" for entry in FIGURES for name in entry.tables}


def chosen(**overrides: Any) -> list[str]:
    return figure_names(load_study(ROOT / "config/studies/smoke.yaml", overrides))


def drawable(study: Study) -> set[str]:
    """Figures whose tables the study has."""
    return {entry.name for entry in FIGURES if set(entry.tables) <= set(tables_of(study))}


def test_a_study_that_has_every_table_has_every_figure_in_the_report_s_order(
    smoke: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefacts, "TABLES", TABLES)
    monkeypatch.setattr(artefacts, "OPTIONAL_TABLES", {})
    assert figure_names(smoke) == NAMES


def test_figures_are_drawn_from_the_tables_of_the_catalogue() -> None:
    assert {entry.name: entry.tables for entry in FIGURES} == DRAWN_FROM


def test_a_table_that_is_not_there_takes_its_figures_along(
    smoke: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {name: path for name, path in TABLES.items() if name not in ("density", "massive")}
    monkeypatch.setattr(artefacts, "TABLES", left)
    monkeypatch.setattr(artefacts, "OPTIONAL_TABLES", {})
    assert set(NAMES) - set(figure_names(smoke)) == {
        "density_peaks", "density_dendrograms", "density_modalities", "massive",
    }  # fmt: skip


def test_attention_has_figures_and_tables_only_where_it_is_asked_for(
    smoke: Study, attentive: Study
) -> None:
    assert set(figure_names(attentive)) - set(figure_names(smoke)) == ON_REQUEST
    assert set(artefacts.TABLES) <= set(tables_of(smoke))
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
                "cosine_modalities", "density_modalities", "overlap_modalities_scales", "svcca",
                "cosine_medians", "modality_gap", "information_imbalance", "linear_probes",
            },
        ),
        ({"probes": {"sets": ["pair_images", "pair_texts"]}}, set()),
    ],
)  # fmt: skip
def test_what_a_study_leaves_out_has_no_figure(
    smoke: Study, overrides: dict[str, Any], lost: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefacts, "TABLES", TABLES)
    monkeypatch.setattr(artefacts, "OPTIONAL_TABLES", {})
    assert drawable(smoke) == set(NAMES)
    assert set(NAMES) - set(chosen(**overrides)) == lost
