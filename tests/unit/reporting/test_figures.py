from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from layersight.reporting import figures_change
from layersight.reporting.catalogue import FIGURES, FigureEntry
from layersight.reporting.figures_recovery import gain_is_clear, recovery_cumulative
from layersight.reporting.lineup import Lineup, over_seeds
from layersight.reporting.wording import sentences_of

ROOT = Path(__file__).parents[3]
MakeTables = Callable[..., dict[str, pd.DataFrame]]
every_figure = pytest.mark.parametrize("entry", FIGURES, ids=lambda entry: entry.name)


def drawn(entry: FigureEntry, tables: dict[str, pd.DataFrame], lineup: Lineup) -> Figure:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = entry.draw(*(tables[name] for name in entry.tables), lineup)
        figure.draw_without_rendering()
    said = sentences_of(entry.say(*(tables[name] for name in entry.tables), lineup))
    assert len(said) == 2
    assert "nan" not in " ".join(said).lower()
    return figure


@every_figure
def test_draws_two_variants_of_one_seed(entry: FigureEntry, make_tables: MakeTables) -> None:
    assert drawn(entry, make_tables(), Lineup(("full", "lora"))).axes


@every_figure
def test_draws_a_single_variant_alone(entry: FigureEntry, make_tables: MakeTables) -> None:
    tables = {
        name: frame[frame["subject"] == "full/seed-0"] if "subject" in frame else frame
        for name, frame in make_tables(("full",)).items()
    }
    assert drawn(entry, tables, Lineup(("full",))).axes


@every_figure
def test_draws_three_seeds(entry: FigureEntry, make_tables: MakeTables) -> None:
    lineup = Lineup(("full", "lora"), seeds=3, ranges={"lora": [(1, 3)]})
    assert drawn(entry, make_tables(seeds=3), lineup).axes


@every_figure
def test_draws_where_nothing_is_defined(entry: FigureEntry, make_tables: MakeTables) -> None:
    tables = make_tables()
    if set(entry.tables) <= {"scores", "differences", "training", "matrix_change"}:
        pytest.skip("these numbers are always defined")
    numbers = ["value", "low", "high", "smallest", "largest", "random_pairs", "chance"]
    for name, frame in tables.items():
        if name in ("scores", "differences", "training", "massive"):
            continue
        undefined = [*numbers, *(["dimension"] if "estimator" in frame else [])]
        for column in undefined:
            if column in frame:
                tables[name][column] = float("nan")
        if "plateau" in frame:
            tables[name]["plateau"] = False
    tables["recovery"][["recovery", "recovery_low", "recovery_high"]] = float("nan")
    # Where no peak is defined, no peak is described.
    for name in ("density_merges", "density_peaks"):
        tables[name] = tables[name].head(0)
    assert drawn(entry, tables, Lineup(("full", "lora"))).axes


@every_figure
def test_has_a_caption(entry: FigureEntry) -> None:
    assert len((ROOT / f"workflow/report/{entry.name}.rst").read_text(encoding="utf-8")) > 60


def test_seeds_are_averaged_and_their_range_is_the_band() -> None:
    frame = pd.DataFrame(
        {
            "subject": ["full/seed-0", "full/seed-1", "aligned"],
            "layer": [1, 1, 1],
            "n": [50, 40, 50],
            "value": [0.2, 0.4, 0.1],
            "low": [0.0, 0.0, 0.05],
            "high": [1.0, 1.0, 0.15],
        }
    )
    table = over_seeds(frame, ["layer"]).set_index("variant")
    assert table.loc["full", ["value", "low", "high", "n"]].tolist() == pytest.approx(
        [0.3, 0.2, 0.4, 40]
    )
    assert table.loc["aligned", ["value", "low", "high"]].tolist() == [0.1, 0.05, 0.15]


def test_a_seed_without_a_number_leaves_a_gap() -> None:
    frame = pd.DataFrame(
        {
            "subject": ["full/seed-0", "full/seed-1"],
            "n": [50, 50],
            "value": [0.2, float("nan")],
            "low": [0.1, float("nan")],
            "high": [0.3, float("nan")],
        }
    )
    assert over_seeds(frame, [])["value"].isna().all()


def test_recovery_without_a_clear_gain_shows_raw_scores_and_says_so(
    make_tables: MakeTables,
) -> None:
    frame = make_tables()["recovery"]
    frame.loc[(frame["variant"] == "lora") & (frame["sweep"] != "reference"), "undefined_share"] = (
        0.03
    )
    figure = recovery_cumulative(frame, Lineup(("full", "lora")))
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [
        "full: accuracy",
        "full: logit margin",
        "lora: raw score, no clear gain",
        "lora: raw score, no clear gain",
    ]
    assert figure.axes[0].get_ylabel() == "recovery"
    assert figure.axes[2].get_ylabel() == "accuracy"


def test_the_gain_is_judged_at_the_level_of_the_intervals(make_tables: MakeTables) -> None:
    rows = make_tables(("full",))["recovery"].assign(undefined_share=0.03)
    assert gain_is_clear(rows, 0.90)
    assert not gain_is_clear(rows, 0.95)


def test_the_layer_axis_runs_from_0_to_the_last_layer_in_whole_numbers(
    make_tables: MakeTables,
) -> None:
    entry = next(entry for entry in FIGURES if entry.name == "overlap_tuned")
    ticks = drawn(entry, make_tables(), Lineup(("full", "lora"))).axes[0].get_xticks()
    assert ticks.tolist() == [0, 1, 2, 3, 4]


def test_no_panel_of_change_cuts_off_what_it_shows(make_tables: MakeTables) -> None:
    tables, lineup = make_tables(), Lineup(("full", "lora"))
    frame = tables["change"].copy()
    later = frame["probe"] == "text_questions"
    frame.loc[later & (frame["metric"] == "relative_norm"), ["value", "low", "high"]] *= 50
    figure = figures_change.change(frame, tables["weight_change"], lineup)
    for ax in figure.axes:
        for line in ax.get_lines():
            assert ax.get_ylim()[1] >= np.nanmax(np.asarray(line.get_ydata(), dtype=float))
