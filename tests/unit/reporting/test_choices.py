"""Figures and sentences of studies that leave probe sets and benchmarks out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from tests.conftest import ROOT

from layersight.reporting import figures_change, provenance_pages, sentences
from layersight.reporting.catalogue import FIGURES
from layersight.reporting.figure_names import figure_names
from layersight.reporting.lineup import Lineup
from layersight.reporting.wording import sentences_of
from layersight.study_file import load_study

MakeTables = Callable[..., dict[str, pd.DataFrame]]
PAIRS = ["pair_images", "pair_texts"]
LINEUP = Lineup(("full", "lora"))


def names_of(probes: list[str], tasks: list[str]) -> list[str]:
    overrides = {"probes": {"sets": probes}, "benchmarks": {"tasks": tasks}}
    return figure_names(load_study(ROOT / "config/studies/smoke.yaml", overrides))


def test_every_figure_of_the_smallest_study_is_drawn_and_speaks_of_what_is_there_only(
    make_tables: MakeTables,
) -> None:
    tables = make_tables(probes=PAIRS, tasks=["kind_image"])
    asked = names_of(PAIRS, ["kind_image"])
    assert "presence" not in asked
    for entry in FIGURES:
        if entry.name not in asked:
            continue
        frames = [tables[name] for name in entry.tables]
        assert entry.applies(frames[0])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure = entry.draw(*frames, LINEUP)
        text = entry.say(*frames, LINEUP)
        assert len(sentences_of(text)) == 2
        for absent in ("CIDEr", "naming", "presence", "questions", "kind_text", "nan"):
            assert absent not in text.replace("undefined", "")
            assert not any(absent in ax.get_title() for ax in figure.axes)


@pytest.mark.parametrize(
    ("probes", "panels"),
    [
        (PAIRS, [("pair_images", "last"), ("pair_texts", "last")]),
        (["text_questions", *PAIRS], [("pair_images", "last"), ("text_questions", "last")]),
        (["visual_questions", *PAIRS], [("visual_questions", "last"), ("pair_texts", "last")]),
    ],
)
def test_change_shows_inputs_with_pictures_beside_inputs_without(
    make_tables: MakeTables, probes: list[str], panels: list[tuple[str, str]]
) -> None:
    assert figures_change.change_panels(make_tables(probes=probes)["change"]) == panels


def test_sentences_open_with_pictures_where_only_questions_in_words_were_asked(
    make_tables: MakeTables,
) -> None:
    tables = make_tables(probes=["text_questions", *PAIRS])
    assert sentences.overlap_tuned(tables["change"], LINEUP).startswith("On pictures (")
    said = sentences.intrinsic_dimension(tables["intrinsic_dimension"], LINEUP)
    assert said.startswith("On pictures (")
    assert sentences.intrinsic_dimension_scales(tables["intrinsic_dimension"], LINEUP).startswith(
        "On pictures ("
    )


def test_words_alone_are_not_said_to_have_pictures(make_tables: MakeTables) -> None:
    frame = make_tables(probes=PAIRS)["change"].query("probe == 'pair_texts'")
    text = sentences.overlap_tuned(frame, LINEUP)
    assert text.startswith("On names (")
    assert "No probe set with pictures was compared" in text


@pytest.mark.parametrize(
    ("tasks", "said", "unsaid"),
    [
        (["kind_image"], ["kind-of-thing"], ["yes-or-no", "naming"]),
        (["kind_image", "presence"], ["kind-of-thing", "yes-or-no"], ["naming"]),
        (["kind_image", "naming"], ["kind-of-thing", "naming"], ["yes-or-no"]),
    ],
)
def test_limits_count_the_items_that_are_asked(
    tasks: list[str], said: list[str], unsaid: list[str]
) -> None:
    overrides: dict[str, Any] = {"benchmarks": {"tasks": tasks}}
    study = load_study(ROOT / "config/studies/smoke.yaml", overrides)
    text = " ".join(provenance_pages.limits(study))
    assert all(word in text for word in said)
    assert not any(word in text for word in unsaid)
