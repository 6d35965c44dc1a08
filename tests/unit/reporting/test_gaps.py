"""Figures, sentences and words of a study whose training failed in places."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pandas as pd
import pytest
from matplotlib.figure import Figure
from tests.conftest import ROOT

from layersight.reporting.catalogue import FIGURES, FigureEntry
from layersight.reporting.gaps import consequences, left_out, mark
from layersight.reporting.lineup import Lineup
from layersight.reporting.no_data import no_data, say_no_data, says_no_data
from layersight.reporting.wording import sentences_of
from layersight.study import Study
from layersight.study_file import load_study

MakeTables = Callable[..., dict[str, pd.DataFrame]]
VARIANTS = ("full", "lora")
ALL = ("full/seed-0", "full/seed-1", "lora/seed-0", "lora/seed-1")
RANGES = {"full": [(1, 3)]}

every_figure = pytest.mark.parametrize("entry", FIGURES, ids=lambda entry: entry.name)


def lineup(seeds: int, *failed: str) -> Lineup:
    return Lineup(VARIANTS, seeds=seeds, ranges=RANGES, failed=failed)


# Tables of tuned subjects alone.
TUNED = ("recovery", "change", "matrix_change", "concentration")


def drawn(entry: FigureEntry, tables: dict[str, pd.DataFrame], shown: Lineup) -> Figure:
    frames = [tables[name] for name in entry.tables]
    assert entry.applies(frames[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = entry.draw(*frames, shown)
        figure.draw_without_rendering()
    return figure


def said(entry: FigureEntry, tables: dict[str, pd.DataFrame], shown: Lineup) -> str:
    text = entry.say(*(tables[name] for name in entry.tables), shown)
    assert len(sentences_of(text)) == 2
    assert "nan" not in text.lower()
    return text


@every_figure
@pytest.mark.parametrize(
    ("seeds", "failed"),
    [(1, ALL[:1]), (2, ALL[1:2]), (2, ALL[:3])],
    ids=["one variant of two", "one seed of two", "all but one"],
)
def test_sentences_speak_of_what_is_left(
    entry: FigureEntry, make_tables: MakeTables, seeds: int, failed: tuple[str, ...]
) -> None:
    shown = lineup(seeds, *failed)
    text = said(entry, make_tables(VARIANTS, seeds, failed=failed), shown)
    assert shown.seeds_of("full") or "full" not in text


@every_figure
def test_draws_the_one_subject_that_is_left(entry: FigureEntry, make_tables: MakeTables) -> None:
    # One variant is gone and the other has one seed of two.
    shown = lineup(2, *ALL[:3])
    figure = drawn(entry, make_tables(VARIANTS, 2, failed=ALL[:3]), shown)
    words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert figure.axes
    assert "full" not in [*words, *(ax.get_title() for ax in figure.axes)]


@every_figure
def test_where_every_variant_failed_each_figure_shows_what_is_left_or_has_no_data(
    entry: FigureEntry, make_tables: MakeTables
) -> None:
    tables = make_tables(VARIANTS, 2, failed=ALL)
    if entry.tables[0] in TUNED or entry.name == "overlap_tuned_scales":
        assert not entry.applies(tables[entry.tables[0]])
    else:
        assert said(entry, tables, lineup(2, *ALL))
        assert drawn(entry, tables, lineup(2, *ALL)).axes


def test_an_empty_figure_says_why_it_is_empty() -> None:
    def words(shown: Lineup) -> list[str]:
        return [text.get_text() for text in no_data(shown).axes[0].texts]

    assert words(lineup(2, *ALL)) == ["no data: every variant failed"]
    assert words(lineup(2)) == ["no data"]
    for shown in (lineup(2, *ALL), lineup(2)):
        assert says_no_data(sentences_of(say_no_data(shown)))
    assert not says_no_data(["Of 3 differences none is clear.", "The best is small."])


def test_the_others_look_as_they_would_without_the_gap(make_tables: MakeTables) -> None:
    entry = next(entry for entry in FIGURES if entry.name == "overlap_tuned")

    def look_of_lora(*failed: str) -> tuple[object, ...]:
        axes = drawn(entry, make_tables(VARIANTS, failed=failed), lineup(1, *failed)).axes
        line = axes[0].get_lines()[-1]
        return line.get_color(), line.get_marker(), line.get_linestyle()

    assert look_of_lora("full/seed-0") == look_of_lora()


def test_the_legend_of_patching_names_block_ranges_of_shown_variants_only(
    make_tables: MakeTables,
) -> None:
    entry = next(entry for entry in FIGURES if entry.name == "recovery_cumulative")

    def legend(*failed: str) -> str:
        figure = drawn(entry, make_tables(VARIANTS, failed=failed), lineup(1, *failed))
        return " ".join(text.get_text() for text in figure.legends[0].get_texts())

    assert "blocks the variant may change" in legend()
    assert "blocks the variant may change" not in legend("full/seed-0")


@pytest.mark.parametrize(
    ("seeds", "failed", "band", "full", "lora"),
    [
        (1, (), "95 % interval", "95 % interval", "95 % interval"),
        (3, (), "range over 3 seeds", "range over 3 seeds", "range over 3 seeds"),
        (
            3,
            ("full/seed-1",),
            "range over 2 to 3 seeds",
            "range over 2 seeds",
            "range over 3 seeds",
        ),
        (2, ALL[:1], "range over up to 2 seeds", "95 % interval", "range over 2 seeds"),
        (2, ALL[:2], "range over 2 seeds", "95 % interval", "range over 2 seeds"),
        (2, ALL[:3], "95 % interval", "95 % interval", "95 % interval"),
        (2, ALL, "95 % interval", "95 % interval", "95 % interval"),
    ],
)
def test_bands_are_called_by_the_seeds_that_are_left(
    seeds: int, failed: tuple[str, ...], band: str, full: str, lora: str
) -> None:
    shown = lineup(seeds, *failed)
    assert shown.band == band
    assert shown.band_of("full") == full
    assert shown.band_of("lora") == lora
    assert shown.band_of("aligned") == "95 % interval"
    assert len(sentences_of(shown.reading)) == 1


def test_reading_names_the_variants_with_fewer_seeds() -> None:
    assert "means over 3 seeds (2 for full) and" in lineup(3, "full/seed-1").reading
    assert "like a variant with one seed" in lineup(2, "full/seed-1").reading
    assert "variant with one seed" not in lineup(2).reading
    assert "say nothing about how much another seed" in lineup(2, *ALL[:3]).reading


def test_a_study_s_lineup_keeps_failed_variants_in_its_order(smoke: Study) -> None:
    first = smoke.tuned_subjects[0]
    shown = Lineup.of(smoke, {first: "diverged"})
    assert shown.variants == tuple(smoke.variants)
    assert shown.failed == (first,)
    assert not shown.all_failed
    assert Lineup.of(smoke, smoke.tuned_subjects).all_failed


def test_subjects_are_left_out_in_the_study_s_order_with_their_reasons() -> None:
    study = load_study(ROOT / "config/studies/smoke.yaml", {"seeds": 2})
    second, first = study.tuned_subjects[2], study.tuned_subjects[1]
    found = left_out(study, {second: "the loss\n  is not finite", first: f"{first}: passed 3 ln V"})
    assert found == [(first, "passed 3 ln V"), (second, "the loss is not finite")]
    with pytest.raises(ValueError, match="nobody/seed-0"):
        left_out(study, {"nobody/seed-0": "?"})


def test_consequences_name_what_is_missing_and_what_is_left() -> None:
    assert consequences(lineup(2)) == []
    gone = " ".join(consequences(lineup(1, "full/seed-0")))
    assert "has anything of full:" in gone
    assert "about lora only" in gone
    fewer = " ".join(consequences(lineup(2, "full/seed-0")))
    assert "full on 1 of 2 seeds" in fewer
    assert "has anything of" not in fewer
    assert "No tuned subject is left" in " ".join(consequences(lineup(2, *ALL)))


def test_variants_are_marked_where_seeds_are_missing() -> None:
    assert mark(lineup(2), "full") == ""
    assert mark(lineup(2, "full/seed-1"), "full") == "INCOMPLETE: training failed in 1 of 2 seeds."
    assert mark(lineup(2, "full/seed-1"), "lora") == ""
    assert mark(lineup(2, *ALL[:2]), "full") == "LEFT OUT: training failed."
