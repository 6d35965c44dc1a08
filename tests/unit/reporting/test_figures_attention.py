from __future__ import annotations

import warnings
from collections.abc import Callable

import pandas as pd
import pytest
from matplotlib.figure import Figure

from layersight.reporting.figures_attention import (
    attention,
    attention_parameters,
    main_score,
    parameters_of,
)
from layersight.reporting.lineup import Lineup

MakeTables = Callable[..., dict[str, pd.DataFrame]]
LINEUP = Lineup(("full", "lora"))


def drawn(tables: dict[str, pd.DataFrame], lineup: Lineup = LINEUP) -> Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = attention_parameters(tables["attention_summary"], tables["scores"], lineup)
        figure.draw_without_rendering()
    return figure


def test_the_large_panel_shows_means_without_the_first_token(make_tables: MakeTables) -> None:
    figure = attention(make_tables()["attention"], LINEUP)
    assert [len(figure.axes), figure.axes[0].get_title(loc="left")] == [
        4,
        "mean over positions, without the first token",
    ]
    lines = [line.get_ydata() for line in figure.axes[0].get_lines()]
    assert list(lines[0]) == [1.0, 1.0]
    assert list(lines[1]) == pytest.approx([0.3, 0.6, 1.2, 2.4])


def test_balance_is_in_sight_however_far_the_numbers_are(make_tables: MakeTables) -> None:
    frame = make_tables()["attention"]
    for factor in (1e-3, 1e3):
        columns = ["value", "low", "high"]
        scaled = frame.assign(**{name: frame[name] * factor for name in columns})
        for ax in attention(scaled, LINEUP).axes:
            low, high = ax.get_ylim()
            assert low < 1 < high


def test_the_connector_does_not_count_among_trained_parameters(make_tables: MakeTables) -> None:
    found = parameters_of(make_tables(seeds=2)["attention_summary"], Lineup(("full", "lora"), 2))
    assert found.set_index("variant")["trained"].to_dict() == {
        "aligned": 0.0, "full": 800.0, "lora": 6400.0,
    }  # fmt: skip


def test_a_variant_that_trains_none_of_the_language_model_stands_at_0(
    make_tables: MakeTables,
) -> None:
    tables = make_tables()
    frame = tables["attention_summary"]
    tables["attention_summary"] = frame.assign(
        trained_language_model=frame["trained_language_model"].where(
            frame["subject"] != "full/seed-0", 0
        )
    )
    ax = drawn(tables).axes[0]
    labels = {
        tick: label.get_text()
        for tick, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    }
    place = next(tick for tick, label in labels.items() if label == "0")
    points = [float(line.get_xdata()[0]) for line in ax.get_lines() if len(line.get_xdata()) == 1]
    assert points == [place, 800.0]
    low, high = ax.get_xlim()
    assert low < place < 800 < high
    # Nobody else needs that place.
    assert "0" not in [label.get_text() for label in drawn(make_tables()).axes[0].get_xticklabels()]


def test_nothing_is_drawn_at_a_number_of_parameters_that_is_not_known(
    make_tables: MakeTables,
) -> None:
    tables = make_tables()
    tables["attention_summary"]["trained_language_model"] = None
    lines = drawn(tables).axes[0].get_lines()
    assert all(len(line.get_xdata()) != 1 for line in lines)


def test_the_score_is_the_one_that_the_scores_open_with(make_tables: MakeTables) -> None:
    score = main_score(make_tables()["scores"])
    assert (score.benchmark, score.split, score.metric) == (
        "kind_image", "unseen_style", "accuracy",
    )  # fmt: skip
    assert list(score.table["variant"]) == ["aligned", "full", "lora"]
