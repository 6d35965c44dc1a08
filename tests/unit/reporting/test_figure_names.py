from __future__ import annotations

from typing import Any

import pytest
from tests.conftest import ROOT

from layersight.reporting.catalogue import FIGURES
from layersight.reporting.figure_names import figure_names
from layersight.study import Study
from layersight.study_file import load_study


def chosen(**overrides: Any) -> list[str]:
    return figure_names(load_study(ROOT / "config/studies/smoke.yaml", overrides))


def test_a_study_that_leaves_nothing_out_has_every_figure_in_the_report_s_order(
    smoke: Study,
) -> None:
    assert figure_names(smoke) == [entry.name for entry in FIGURES]


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
    assert {entry.name for entry in FIGURES} - set(chosen(**overrides)) == lost
