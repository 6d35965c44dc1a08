"""The same study gives the same report and figures, in any process, folder and environment."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tests.conftest import ROOT

from layersight.reporting.report import build_report
from layersight.study import Study
from layersight.study_file import load_study

MakeTables = Callable[..., dict[str, pd.DataFrame]]
# Two figures, but with curves, bars, a heat map, a legend and text.
SCRIPT = """
import sys
from pathlib import Path
from layersight.reporting import report
from layersight.study_file import load_study

study = load_study(Path(sys.argv[1]))
kept = ("recovery_sliding", "intrinsic_dimension_scales")
report.FIGURES = [entry for entry in report.FIGURES if entry.name in kept]
tables = {path.stem: path for path in Path(sys.argv[2]).glob("*.parquet")}
report.build_figures(study, tables=tables, out=Path("figures"))
report.build_report(
    study, tables=tables, figures=Path("figures"), manifests={}, out=Path("index.html"),
    failed={study.tuned_subjects[0]: "diverged"},
)
"""


@pytest.fixture(scope="module")
def tables(
    tmp_path_factory: pytest.TempPathFactory, make_tables: MakeTables, smoke: Study
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    for name, frame in make_tables(tuple(smoke.variants)).items():
        frame.to_parquet(folder / f"{name}.parquet")
    return {path.stem: path for path in sorted(folder.iterdir())}


def test_two_processes_write_the_same_figures_and_the_same_page(
    tables: dict[str, Path], tmp_path: Path
) -> None:
    study = ROOT / "config/studies/smoke.yaml"
    digests = []
    # Sets of text are walked in another order in each of the two.
    for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo")):
        folder = tmp_path / f"run-{seed}"
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(study), str(tables["change"].parent)],
            cwd=folder,
            env=os.environ
            | {"PYTHONHASHSEED": seed, "TZ": zone, "PYTHONPATH": str(ROOT / "workflow")},
            check=True,
        )
        digests.append(
            {
                str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(folder.rglob("*.*"))
            }
        )
        page = (folder / "index.html").read_text(encoding="utf-8")
        assert str(tmp_path) not in page
        assert str(Path.home()) not in page
    assert len(digests[0]) == 2 * 2 + 2
    assert digests[0] == digests[1]


def test_nothing_measured_in_a_run_is_in_the_report(
    smoke: Study, tables: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "sentences.json").write_text("{}")

    def page(seconds: float, processor: str, torch: str, cache: str) -> str:
        manifest = tmp_path / "manifest.json"
        record = {
            "machine": {"processor": processor, "cores": 2, "system": "Linux"},
            "device": "cpu",
            "versions": {"torch": torch},
            "seconds": seconds,
            "peak_memory_mb": 10 * seconds,
            "inputs": {f"{cache}/a": "0"},
            "trainable_connector": 77,
        }
        manifest.write_text(json.dumps(record))
        study = load_study(ROOT / "config/studies/smoke.yaml", {"assets": {"cache": cache}})
        out = tmp_path / "index.html"
        names = ["models/aligned", *(f"models/{subject}" for subject in study.tuned_subjects)]
        build_report(
            study,
            tables=tables,
            figures=tmp_path,
            manifests=dict.fromkeys(names, manifest),
            out=out,
        )
        return out.read_text(encoding="utf-8")

    first = page(12.5, "abacus", "2.11.0", "/data/cache")
    assert "77 in the connector" in first
    assert first == page(99.5, "quipu", "2.12.0", "~/elsewhere")
