"""The report of a study that has gaps or leaves things out, from tables to the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from tests.conftest import ROOT

from layersight.reporting import report
from layersight.reporting.catalogue import FIGURES
from layersight.reporting.figure_names import figure_names
from layersight.reporting.lineup import Lineup
from layersight.reporting.report import build_figures, build_report
from layersight.reporting.wording import sentences_of
from layersight.study import Study
from layersight.study_file import load_study

MakeTables = Callable[..., dict[str, pd.DataFrame]]
SMALLEST = {
    "probes": {"sets": ["pair_images", "pair_texts"]},
    "benchmarks": {"tasks": ["kind_image"]},
}
MESSAGE = "full/seed-0: the loss at step 3 is 40.1, <three> times that of guessing"


def write(tables: Mapping[str, pd.DataFrame], folder: Path) -> dict[str, Path]:
    found = {}
    for name, frame in tables.items():
        found[name] = folder / f"{name}.parquet"
        frame.to_parquet(found[name])
    return found


def page_of(
    study: Study, tables: dict[str, pd.DataFrame], folder: Path, failed: Mapping[str, str]
) -> str:
    """The page of a study with one tiny picture in place of all figures."""
    lineup = Lineup.of(study, failed)
    figures = folder / "figures"
    figures.mkdir()
    said = {}
    for entry in FIGURES:
        if entry.name in figure_names(study):
            frames = [tables[name] for name in entry.tables]
            said[entry.name] = sentences_of(entry.say(*frames, lineup))
            Image.new("RGB", (2, 2)).save(figures / f"{entry.name}.png")
    (figures / "sentences.json").write_text(json.dumps(said), encoding="utf-8")
    out = folder / "index.html"
    paths = write(tables, folder)
    build_report(study, tables=paths, figures=figures, manifests={}, out=out, failed=failed)
    return out.read_text(encoding="utf-8")


def test_a_failed_variant_is_named_near_the_top_with_its_reason_and_marked_in_the_table(
    smoke: Study, make_tables: MakeTables, tmp_path: Path
) -> None:
    tables = make_tables(tuple(smoke.variants), failed=["full/seed-0"])
    html = page_of(smoke, tables, tmp_path, {"full/seed-0": MESSAGE})
    head = html[: html.index('id="contents"')]
    assert "1 of 2 tuned subjects failed" in head
    assert "<code>full/seed-0</code>: " in head
    assert "is 40.1, &lt;three&gt; times" in head
    assert "is about lora-1-3 only" in head
    row = html[html.index("variant full") :].partition("</tr>")[0]
    assert "LEFT OUT: training failed." in row
    assert html.count("LEFT OUT") == 1


def test_a_report_without_gaps_has_no_notice_of_them(
    smoke: Study, make_tables: MakeTables, tmp_path: Path
) -> None:
    html = page_of(smoke, make_tables(tuple(smoke.variants)), tmp_path, {})
    assert 'class="notice gaps"' not in html
    assert "LEFT OUT" not in html


def test_the_report_is_made_from_what_there_is_when_every_variant_failed(
    make_tables: MakeTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(ROOT / "config/studies/smoke.yaml", SMALLEST)
    # Some with data and some without; drawing all takes long.
    few = [e for e in FIGURES if e.name in ("differences", "change", "recovery_sliding", "scores")]
    monkeypatch.setattr(report, "FIGURES", few)
    failed = dict.fromkeys(study.tuned_subjects, "diverged")
    tables = make_tables(
        tuple(study.variants),
        failed=study.tuned_subjects,
        probes=study.probes.sets,
        tasks=study.benchmarks.tasks,
    )
    # Base is asked nothing here, so nothing at all is compared with aligned.
    assert tables["differences"].empty
    paths = write(tables, tmp_path)
    figures, out = tmp_path / "figures", tmp_path / "index.html"
    build_figures(study, tables=paths, out=figures, failed=failed)
    build_report(study, tables=paths, figures=figures, manifests={}, out=out, failed=failed)
    assert {path.stem for path in figures.glob("*.png")} == {entry.name for entry in few}
    html = out.read_text(encoding="utf-8")
    assert "2 of 2 tuned subjects failed" in html
    assert "No tuned subject is left" in html
    findings = html[html.index('id="findings"') : html.index('id="reading"')]
    assert "On kind_image" in findings
    assert "has no data" not in findings
    # In the caption and in the text for those who do not see the figure.
    assert html.count("Every variant failed, so this figure has no data.") == 2 * 3


def test_the_page_of_the_smallest_study_speaks_of_what_is_there_only(
    make_tables: MakeTables, tmp_path: Path
) -> None:
    study = load_study(ROOT / "config/studies/smoke.yaml", SMALLEST)
    tables = make_tables(
        tuple(study.variants), probes=study.probes.sets, tasks=study.benchmarks.tasks
    )
    html = page_of(study, tables, tmp_path, {})
    text = html[: html.index("Every setting but those")]
    for absent in ("kind_text", "presence", "naming", "CIDEr", "yes-or-no", "POPE", "_questions"):
        assert absent not in text
    assert "no benchmark of this study asks it" in text


def test_the_page_of_a_study_with_everything_speaks_of_it(
    smoke: Study, make_tables: MakeTables, tmp_path: Path
) -> None:
    html = page_of(smoke, make_tables(tuple(smoke.variants)), tmp_path, {})
    for present in ("“presence” follows", "“naming” is scored", "yes-or-no", "text_questions"):
        assert present in html
    assert "no benchmark of this study asks it" not in html
