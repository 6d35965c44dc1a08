from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from tests.conftest import ROOT

from layersight.errors import DataError
from layersight.reporting import report
from layersight.reporting.catalogue import FIGURES
from layersight.reporting.lineup import Lineup
from layersight.reporting.no_data import says_no_data
from layersight.reporting.pages import cell, page
from layersight.reporting.report import build_figures, build_report
from layersight.reporting.wording import sentences_of
from layersight.slices import findings, restore, take
from layersight.study import Study
from layersight.study_file import load_study

MakeTables = Callable[..., dict[str, pd.DataFrame]]


class Page(HTMLParser):
    """Collects what a browser would fetch, and what it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.shown.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, make_tables: MakeTables, smoke: Study
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    found = {}
    for name, frame in make_tables(tuple(smoke.variants), smoke.seeds).items():
        found[name] = folder / f"{name}.parquet"
        frame.to_parquet(found[name])
    return found


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, make_tables: MakeTables, smoke: Study) -> Path:
    """What `build_figures` writes, with one tiny picture in place of all figures."""
    folder = tmp_path_factory.mktemp("figures")
    tables = make_tables(tuple(smoke.variants), smoke.seeds)
    said = {}
    for entry in FIGURES:
        frames = [tables[name] for name in entry.tables]
        said[entry.name] = sentences_of(entry.say(*frames, Lineup.of(smoke)))
        Image.new("RGB", (2, 2)).save(folder / f"{entry.name}.png")
    (folder / "sentences.json").write_text(json.dumps(said), encoding="utf-8")
    return folder


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"trainable_language_model": 1234567, "trainable_connector": 890}))
    return path


def build(study: Study, tables: dict[str, Path], figures: Path, manifest: Path, out: Path) -> str:
    build_report(
        study,
        tables=tables,
        figures=figures,
        manifests={f"models/{study.tuned_subjects[0]}": manifest},
        out=out,
    )
    return out.read_text(encoding="utf-8")


@pytest.fixture
def html(
    smoke: Study, written: dict[str, Path], drawn: Path, manifest: Path, tmp_path: Path
) -> str:
    return build(smoke, written, drawn, manifest, tmp_path / "index.html")


def test_figures_are_written_with_two_sentences_each_and_empty_ones_where_there_is_nothing(
    smoke: Study, written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three of them, since writing all takes long; each is drawn in a test of its own.
    few = [e for e in FIGURES if e.name in ("training", "recovery_sliding", "recovery_cumulative")]
    monkeypatch.setattr(report, "FIGURES", few)
    unswept = pd.read_parquet(written["recovery"]).query("sweep != 'sliding'")
    unswept.to_parquet(tmp_path / "recovery.parquet")
    tables = written | {"recovery": tmp_path / "recovery.parquet"}
    build_figures(smoke, tables=tables, out=tmp_path / "figures")
    said = json.loads((tmp_path / "figures/sentences.json").read_text(encoding="utf-8"))
    assert list(said) == ["recovery_cumulative", "recovery_sliding", "training"]
    assert all(len(parts) == 2 for parts in said.values())
    assert [says_no_data(parts) for parts in said.values()] == [False, True, False]
    for name in said:
        assert (tmp_path / f"figures/{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")
    assert len(list((tmp_path / "figures").iterdir())) == 7


def test_figures_of_a_sweep_that_the_study_leaves_out_are_not_drawn(
    written: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [e for e in FIGURES if e.name in ("recovery_sliding", "recovery_cumulative")]
    monkeypatch.setattr(report, "FIGURES", few)
    overrides = {"patching": {"sweeps": [{"kind": "cumulative", "stride": 2}]}}
    study = load_study(ROOT / "config/studies/smoke.yaml", overrides)
    build_figures(study, tables=written, out=tmp_path / "figures")
    said = json.loads((tmp_path / "figures/sentences.json").read_text(encoding="utf-8"))
    assert list(said) == ["recovery_cumulative"]


def test_attention_is_on_the_page_of_a_study_that_asks_for_it(
    attentive: Study, written: dict[str, Path], drawn: Path, manifest: Path, tmp_path: Path,
    html: str,
) -> None:  # fmt: skip
    found = build(attentive, written, drawn, manifest, tmp_path / "index.html")
    path = "results/smoke/tables/attention_summary.parquet"
    assert path in found
    assert path not in html
    # A study that does not ask for it needs no such table, one that does cannot do without.
    fewer = {name: file for name, file in written.items() if not name.startswith("attention")}
    build(
        load_study(ROOT / "config/studies/smoke.yaml"), fewer, drawn, manifest, tmp_path / "b.html"
    )
    with pytest.raises(DataError, match="needs the tables attention, attention_summary"):
        build(attentive, fewer, drawn, manifest, tmp_path / "c.html")


def test_the_page_needs_nothing_else(html: str) -> None:
    found = Page(html)
    images = found.all("img")
    assert len(images) == len(FIGURES)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in images)
    assert not found.all("script") + found.all("iframe") + found.all("object")
    for _, attributes in found.tags:
        for key in ("src", "href", "xlink:href", "srcset", "action"):
            target = attributes.get(key) or "#"
            # The page of the run lies beside it and is not needed for reading.
            assert target == "run.html" or target.startswith(("#", "data:"))
    assert "@import" not in html
    assert "url(" not in html


def test_images_tables_and_sections_are_named_for_those_who_do_not_see_them(html: str) -> None:
    found = Page(html)
    assert all(len(image["alt"] or "") > 40 for image in found.all("img"))
    assert len(found.all("caption")) == len(found.all("table"))
    targets = {attributes.get("id") for _, attributes in found.tags}
    links = [(link["href"] or "")[1:] for link in found.all("a") if link["href"] != "run.html"]
    assert links
    assert set(links) <= targets


def test_the_notice_stands_before_everything_else(html: str, smoke: Study) -> None:
    assert smoke.notice
    assert html.index('class="notice"') < html.index('id="findings"')


def test_what_was_measured_stands_on_the_page(html: str, smoke: Study) -> None:
    text = " ".join(" ".join(Page(html).shown).split())
    for expected in (
        " ".join(smoke.question.split()),
        "1,234,567 in the language model, 890 in the connector",
        "results/smoke/tables/scores.parquet",
        "majority",
        "Random weights",
        "resamples:",
    ):
        assert expected in text


def test_the_report_reads_nothing_of_where_and_on_what_the_study_runs(
    smoke: Study, written: dict[str, Path], drawn: Path, manifest: Path, tmp_path: Path, html: str
) -> None:
    part = restore(take(smoke, *findings()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = build(part, written, drawn, manifest, tmp_path / "part.html")
    assert found == html


def test_markup_in_the_study_is_shown_and_not_obeyed(
    smoke: Study, written: dict[str, Path], drawn: Path, manifest: Path, tmp_path: Path
) -> None:
    study = smoke.model_copy(update={"title": "<script>alert(1)</script> & <b>bold</b>"})
    html = build(study, written, drawn, manifest, tmp_path / "index.html")
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;b&gt;" in html


def test_a_missing_table_or_figure_is_named(
    smoke: Study, written: dict[str, Path], drawn: Path, manifest: Path, tmp_path: Path
) -> None:
    fewer = {name: path for name, path in written.items() if name != "change"}
    with pytest.raises(DataError, match="change"):
        build(smoke, fewer, drawn, manifest, tmp_path / "index.html")
    with pytest.raises(DataError, match="draw the figures first"):
        build(smoke, written, tmp_path / "nowhere", manifest, tmp_path / "index.html")
    assert not (tmp_path / "index.html").exists()


def test_a_table_with_layers_has_one_column_per_layer(make_tables: MakeTables) -> None:
    frame = make_tables()["change"]
    found = page("change", "Change.", frame)
    assert found.head[-5:] == ["0", "1", "2", "3", "4"]
    assert found.total == len(frame)
    assert len(found.rows) * 5 == len(frame)
    assert found.rows[0][-5] == "–"


def test_cells_are_short() -> None:
    found = [cell(value) for value in (3, 3.0, 0.12345, float("nan"), "text", 12345.6)]
    assert found == ["3", "3", "0.123", "–", "text", "12346"]
