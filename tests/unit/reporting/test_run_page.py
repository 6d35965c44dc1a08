from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from layersight.reporting.run_page import RUN_PAGE, build_run_page
from layersight.slices import restore, take
from layersight.study import Study


@pytest.fixture
def manifests(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name, torch in (("models/aligned", "2.11.0"), ("benchmarks/aligned/naming", "2.12.1")):
        record: dict[str, Any] = {
            "machine": {"processor": "abacus", "cores": 2, "system": "Linux"},
            "device": "cpu",
            "versions": {"python": "3.11.7", "torch": torch},
            "seconds": 12.5,
            "peak_memory_mb": 803.0,
        }
        found[name] = tmp_path / f"{torch}.json"
        found[name].write_text(json.dumps(record))
    return found


@pytest.fixture
def timings(tmp_path: Path) -> dict[str, Path]:
    path = tmp_path / "align.tsv"
    path.write_text("s\th:m:s\tmax_rss\n61.5\t0:01:01\t812.3\n8.5\t0:00:08\t-\n")
    return {"align": path}


def test_machines_times_and_versions_stand_on_the_page(
    smoke: Study, manifests: dict[str, Path], timings: dict[str, Path], tmp_path: Path
) -> None:
    build_run_page(smoke, manifests=manifests, timings=timings, out=tmp_path / RUN_PAGE)
    html = (tmp_path / RUN_PAGE).read_text(encoding="utf-8")
    for expected in (
        "abacus",
        "2.11.0, 2.12.1",
        "<td>70.0</td><td>812</td>",
        "benchmarks/aligned/naming",
        "12.5",
        "803",
        'href="index.html"',
    ):
        assert expected in html
    assert html.count("abacus") == 1


def test_a_run_without_records_has_a_page_that_says_so(smoke: Study, tmp_path: Path) -> None:
    build_run_page(smoke, manifests={}, timings={}, out=tmp_path / RUN_PAGE)
    html = (tmp_path / RUN_PAGE).read_text(encoding="utf-8")
    assert html.count("No rows.") == 4


def test_the_page_reads_the_name_of_the_study_only(smoke: Study, tmp_path: Path) -> None:
    build_run_page(restore(take(smoke, "name")), manifests={}, timings={}, out=tmp_path / RUN_PAGE)
    assert "This run of smoke" in (tmp_path / RUN_PAGE).read_text(encoding="utf-8")
