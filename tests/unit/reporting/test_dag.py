from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from tests.conftest import ROOT

from layersight.reporting.dag import dag_svg, study_graph
from layersight.study import Study
from layersight.study_file import load_study

STAGES = [("a", 1), ("b", 2), ("c", 3), ("d", 1)]
EDGES = [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")]


def boxes(svg: str) -> list[tuple[float, float]]:
    found = re.findall(r'<rect x="([-\d.]+)" y="([-\d.]+)"', svg)
    return [(float(x), float(y)) for x, y in found]


def test_every_stage_stands_below_its_inputs() -> None:
    places = dict(zip("abcd", boxes(dag_svg(STAGES, EDGES, title="t")), strict=True))
    assert all(places[start][1] < places[end][1] for start, end in EDGES)


def test_boxes_of_a_study_do_not_overlap_and_lie_inside(smoke: Study) -> None:
    stages, edges = study_graph(smoke)
    svg = dag_svg(stages, edges, title="t")
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', svg)
    assert size is not None
    found = boxes(svg)
    assert len(found) == len(stages)
    for index, (x, y) in enumerate(found):
        assert x >= 0
        assert x + 132 <= float(size[1])
        assert y + 40 <= float(size[2])
        for other_x, other_y in found[index + 1 :]:
            assert abs(x - other_x) >= 132 or abs(y - other_y) >= 40


def test_the_drawing_is_well_formed_and_the_same_for_edges_in_any_order() -> None:
    first = dag_svg(STAGES, EDGES, title="a < b & c")
    assert first == dag_svg(STAGES, EDGES[::-1], title="a < b & c")
    assert ElementTree.fromstring(first).findtext("title") == "a < b & c"


def test_a_cycle_and_an_unknown_stage_are_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        dag_svg(STAGES, [*EDGES, ("d", "a")], title="t")
    with pytest.raises(ValueError, match="nowhere"):
        dag_svg(STAGES, [("a", "nowhere")], title="t")


def test_stages_count_what_the_study_makes(smoke: Study) -> None:
    counts = dict(study_graph(smoke)[0])
    assert counts["tuning"] == len(smoke.variants) * smoke.seeds
    # Base reads the probe sets without pictures only, and answers what is asked in words alone.
    assert counts["activations"] == 4 * (counts["tuning"] + 1) + 2
    assert counts["benchmarks"] == 4 * (counts["tuning"] + 1) + 1


def test_stages_count_the_probe_sets_and_benchmarks_of_the_study_only() -> None:
    study = load_study(
        ROOT / "config/studies/smoke.yaml",
        {
            "probes": {"sets": ["pair_images", "pair_texts"]},
            "benchmarks": {"tasks": ["kind_image"]},
        },
    )
    counts = dict(study_graph(study)[0])
    assert counts["probe sets"] == 2
    assert counts["benchmark items"] == 1
    assert counts["activations"] == 2 * (counts["tuning"] + 1) + 1
    assert counts["benchmarks"] == counts["tuning"] + 1
