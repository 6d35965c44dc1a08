"""How subjects divide their attention between image and text, and what that costs and brings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullLocator

from layersight.reporting.figures_layers import curves, say_if_empty, subject_handles
from layersight.reporting.figures_scores import METRIC_WORDS, score_panels, splits_of, whole
from layersight.reporting.lineup import SPLIT_WORDS, Lineup, over_seeds
from layersight.reporting.style import FULL_WIDTH, GUIDE, layer_axis, legend_above, styled

# Means without the first token, which draws much attention whatever it is, stand for all.
MAIN = ("mean", False)
FORMS = {
    ("mean", False): "mean over positions, without the first token",
    ("mean", True): "mean, with the first token",
    ("sum", False): "sum, without the first token",
    ("sum", True): "sum, with the first token",
}


def form(frame: pd.DataFrame, kind: str, bos: bool) -> pd.DataFrame:
    """Return the rows of one of the four ratios."""
    return frame[(frame["kind"] == kind) & (frame["bos"] == bos)]


@styled
def attention(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """The ratio of every block: the main form large, the other three below it.

    Args:
        frame: the table `attention`.
        lineup: the subjects.
    """
    others = [key for key in FORMS if key != MAIN]
    figure = Figure(figsize=(FULL_WIDTH, 4.4), layout="constrained")
    grid = figure.add_gridspec(2, len(others), height_ratios=[1.35, 1])
    panels = [(MAIN, figure.add_subplot(grid[0, :]))]
    panels += [(key, figure.add_subplot(grid[1, i])) for i, key in enumerate(others)]
    last = int(frame["block"].max())
    for key, ax in panels:
        rows = form(frame, *key)
        ax.set_yscale("log")
        ax.axhline(1.0, color=GUIDE, linewidth=1.0, zorder=1.5)
        curves(ax, rows, lineup, x="block")
        say_if_empty(ax, rows)
        ax.set_title(FORMS[key], loc="left")
        layer_axis(ax, last, "block")
        _plain_ticks(ax, "y")
    panels[0][1].set_ylabel("LMAR: attention to\nan image token / a text token")
    panels[0][1].annotate(
        "balance", (0.0, 1.0), xycoords=("axes fraction", "data"), xytext=(2, 2),
        textcoords="offset points", ha="left", color="#555555", fontsize=7,
    )  # fmt: skip
    panels[1][1].set_ylabel("image / text")
    legend_above(figure, subject_handles(lineup.present(over_seeds(frame, [])), lineup))
    return figure


def parameters_of(frame: pd.DataFrame, lineup: Lineup) -> pd.DataFrame:
    """Return the main ratio, averaged over blocks, beside the trained parameters.

    Args:
        frame: the table `attention_summary`.
        lineup: the subjects.

    Returns:
        One row a variant, `aligned` among them: `variant`, `value`, `low`, `high`, `n`, `seeds` and
        `trained`, parameters of the language model (NaN where they are not known). Connector
        and vision encoder do not count, as in the paper.
    """
    rows = form(frame, *MAIN)
    table = over_seeds(rows, [])
    trained = rows.assign(variant=rows["subject"].str.partition("/seed-")[0])
    counts = trained.groupby("variant")["trained_language_model"].max()
    table["trained"] = table["variant"].map(counts).astype(float)
    return table[table["variant"].isin(lineup.order)]


@dataclass(frozen=True)
class MainScore:
    """The score that stands for all: of the first benchmark, on unseen styles if it has them."""

    benchmark: str
    split: str
    metric: str
    table: pd.DataFrame
    """Columns `variant`, `value`, `low`, `high`, `n`, `seeds`."""


def main_score(frame: pd.DataFrame) -> MainScore:
    """Choose one score of the table `scores`, the one that its own sentences open with."""
    table = over_seeds(whole(frame), ["benchmark", "split", "metric"])
    benchmark, metric = score_panels(table)[0]
    rows = table[(table["benchmark"] == benchmark) & (table["metric"] == metric)]
    splits = splits_of(rows)
    split = "unseen_style" if "unseen_style" in splits else splits[0]
    return MainScore(benchmark, split, metric, rows[rows["split"] == split])


@styled
def attention_parameters(frame: pd.DataFrame, scores: pd.DataFrame, lineup: Lineup) -> Figure:
    """LMAR and a score over the number of trained parameters, and the score over LMAR.

    Args:
        frame: the table `attention_summary`.
        scores: the table `scores`.
        lineup: the subjects.
    """
    found = parameters_of(frame, lineup)
    score = main_score(scores)
    figure = Figure(figsize=(FULL_WIDTH, 2.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    beside = found.merge(score.table, on="variant", suffixes=("", "_score"))
    places = _places(found.loc[found["variant"] != "aligned", "trained"])
    for ax, table, column in ((left, found, "value"), (middle, beside, "value_score")):
        end = column.removeprefix("value")
        for row in table.to_dict("records"):
            value, low, high = row[column], row[f"low{end}"], row[f"high{end}"]
            look = lineup.looks[row["variant"]]
            if row["variant"] == "aligned":
                ax.axhline(value, color=look.color, linewidth=0.9, linestyle=(0, (4, 2)))
            elif not math.isnan(row["trained"]):
                x = places[row["trained"]]
                ax.plot([x, x], [low, high], color=look.color, linewidth=1.0)
                ax.plot([x], [value], color=look.color, marker=look.marker, markersize=5)
        ax.set_xlabel("trained parameters\nof the language model")
        _parameter_axis(ax, places)
    for row in beside.to_dict("records"):
        look = lineup.looks[row["variant"]]
        x, y = row["value"], row["value_score"]
        right.plot([row["low"], row["high"]], [y, y], color=look.color, linewidth=1.0)
        right.plot([x, x], [row["low_score"], row["high_score"]], color=look.color, linewidth=1.0)
        right.plot([x], [y], color=look.color, marker=look.marker, markersize=5)
    label = METRIC_WORDS[score.metric].partition(" (")[0]
    split = SPLIT_WORDS.get(score.split, score.split)
    middle.set_ylabel(f"{label} on {score.benchmark},\n{split}")
    right.set_ylim(*middle.set_ylim(*right.get_ylim()))
    left.set_ylabel("LMAR, mean over blocks")
    left.set_yscale("log")
    left.axhline(1.0, color=GUIDE, linewidth=1.0, zorder=1.5)
    _plain_ticks(left, "y")
    right.set_xlabel("LMAR, mean over blocks")
    right.set_xscale("log")
    right.axvline(1.0, color=GUIDE, linewidth=1.0, zorder=1.5)
    _plain_ticks(right, "x")
    for ax, rows, column in ((left, found, "value"), (middle, beside, "value_score")):
        say_if_empty(ax, rows, column)
    names = [name for name in lineup.present(found) if name != "base"]
    legend_above(figure, subject_handles(names, lineup, line=False))
    return figure


def _places(trained: pd.Series) -> dict[float, float]:
    """Where numbers of parameters lie on a log axis, which has no place for none."""
    numbers = sorted(set(trained.dropna()))
    positive = [number for number in numbers if number > 0]
    none = 10 ** (math.floor(math.log10(positive[0])) - 1) if positive else 1.0
    return {number: number if number > 0 else none for number in numbers}


def _parameter_axis(ax: Axes, places: dict[float, float]) -> None:
    ax.set_xscale("log")
    if not places:
        return
    low, high = min(places.values()), max(places.values())
    ax.set_xlim(low / 2.5, high * 2.5)
    decades = range(math.ceil(math.log10(low / 2.5)), math.floor(math.log10(high * 2.5)) + 1)
    step = max(1, math.ceil(len(decades) / 5))
    ticks = {10.0**decade: f"$10^{{{decade}}}$" for decade in decades[::step]}
    if 0 in places:
        # Nothing between none and the first decade means anything.
        ticks = {tick: label for tick, label in ticks.items() if tick > 2 * places[0]}
        ticks[places[0]] = "0"
    ax.xaxis.set_major_locator(FixedLocator(list(ticks)))
    ax.xaxis.set_major_formatter(FixedFormatter(list(ticks.values())))
    ax.xaxis.set_minor_locator(NullLocator())


def _plain_ticks(ax: Axes, which: str) -> None:
    """Label a log axis with plain numbers, and with at least two of them."""
    axis = ax.yaxis if which == "y" else ax.xaxis
    low, high = ax.get_ylim() if which == "y" else ax.get_xlim()
    narrow = math.log10(high / low)
    if narrow < 0.7:  # less than a factor of five: whole multiples of 1, 2 and 5 are too few
        low, high = low / 1.15, high * 1.15
        (ax.set_ylim if which == "y" else ax.set_xlim)(low, high)
    subs: Sequence[float] = (1, 1.5, 2, 3, 5, 7) if narrow < 0.7 else (1, 2, 5)
    if narrow > 2:
        subs = (1,)
    axis.set_major_locator(LogLocator(subs=list(subs), numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
