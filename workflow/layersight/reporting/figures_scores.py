"""Scores of every subject beside chance and majority, and differences to one subject."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layersight.reporting.figures_layers import subject_handles
from layersight.reporting.lineup import (
    MAIN_METRIC,
    SPLIT_WORDS,
    Lineup,
    benchmark_words,
    main_metric,
    over_seeds,
)
from layersight.reporting.style import FULL_WIDTH, grid_of_axes, legend_above, styled

CONDITIONS = ("random", "popular", "adversarial", "all")
METRIC_WORDS = {
    "accuracy": "accuracy (share of items)",
    "lenient_match": "lenient match (share of items)",
    "exact_match": "exact match (share of items)",
    "cider": "CIDEr (0 to 10)",
}
PRESENCE_METRICS = {
    "accuracy": "accuracy",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "yes_ratio": "share of “yes”",
}
ROW_HEIGHT = 0.12
MAJORITY = "#b5b5b5"


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out the single conditions of `presence`, whose pooled rows stay."""
    return frame[(frame["benchmark"] != "presence") | (frame["condition"] == "all")]


def score_panels(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the (benchmark, metric) of the panels: each main metric, and CIDEr last.

    Benchmarks of pictograms come first, then sets of questions by name.
    """
    found = set(zip(frame["benchmark"], frame["metric"], strict=True))
    names = [*MAIN_METRIC, *sorted(set(frame["benchmark"]) - set(MAIN_METRIC))]
    panels = [(name, main_metric(name)) for name in names if (name, main_metric(name)) in found]
    return panels + ([("naming", "cider")] if ("naming", "cider") in found else [])


def splits_of(rows: pd.DataFrame) -> list[str]:
    """Splits in their fixed order."""
    present = set(rows["split"])
    return [split for split in SPLIT_WORDS if split in present] + sorted(present - set(SPLIT_WORDS))


def dots(
    ax: Axes, table: pd.DataFrame, groups: Sequence[tuple[str, pd.DataFrame]], lineup: Lineup
) -> None:
    """Draw one block of rows per group, one dot with its interval per subject in it.

    Args:
        ax: where to draw.
        table: rows that fix who is shown, and so each dot's place in its block.
        groups: label and rows of every block, from the top.
        lineup: order and looks.
    """
    names = lineup.present(table)
    offsets = np.linspace(-0.36, 0.36, len(names)) if len(names) > 1 else np.zeros(1)
    for position, (_, rows) in enumerate(groups):
        for offset, name in zip(offsets, names, strict=True):
            row = rows[rows["variant"] == name]
            if row.empty:
                continue
            value, low, high = (float(row[key].iloc[0]) for key in ("value", "low", "high"))
            look = lineup.looks[name]
            ax.plot([low, high], [position + offset] * 2, color=look.color, linewidth=1.0)
            ax.plot([value], [position + offset], color=look.color, marker=look.marker)
        # The majority's mark is wide and behind, so that it is seen where the two coincide.
        for key, color, width in (("majority", MAJORITY, 3.0), ("chance", "black", 0.9)):
            if key in rows.columns and rows[key].notna().any():
                ax.vlines(
                    float(rows[key].dropna().iloc[0]), position - 0.47, position + 0.47,
                    colors=color, linewidth=width, zorder=1.5,
                )  # fmt: skip
        if position:
            ax.axhline(position - 0.5, color="#cccccc", linewidth=0.6)
    ax.set_yticks(range(len(groups)), [label for label, _ in groups])
    ax.set_ylim(len(groups) - 0.45, -0.55)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)


def with_baselines(frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Scores over seeds with the baselines of their items, where the frame has them."""
    table = over_seeds(frame, by)
    if "chance" not in frame.columns:
        return table
    baselines = frame.groupby(by, sort=False)[["chance", "majority"]].first().reset_index()
    return table.merge(baselines, on=by, how="left")


def _panel_figure(frame: pd.DataFrame, lineup: Lineup) -> tuple[Figure, list[Axes], pd.DataFrame]:
    table = with_baselines(whole(frame), ["benchmark", "split", "metric"])
    panels = score_panels(table)
    names = lineup.present(table)
    rows_of = {
        panel: table[(table["benchmark"] == panel[0]) & (table["metric"] == panel[1])]
        for panel in panels
    }
    lines = [
        max(len(splits_of(rows_of[panel])) for panel in panels[start : start + 2])
        for start in range(0, len(panels), 2)
    ]
    heights = [0.75 + count * max(3, len(names)) * ROW_HEIGHT for count in lines]
    figure = Figure(figsize=(FULL_WIDTH, 0.4 + sum(heights)), layout="constrained")
    columns = min(2, len(panels))
    grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
    axes = []
    for index, (benchmark, metric) in enumerate(panels):
        ax = figure.add_subplot(grid[index // columns, index % columns])
        axes.append(ax)
        rows = rows_of[benchmark, metric]
        groups = []
        for split in splits_of(rows):
            part = rows[rows["split"] == split]
            groups.append((f"{SPLIT_WORDS.get(split, split)}\nn = {part['n'].min()}", part))
        dots(ax, rows, groups, lineup)
        ax.set_title(f"{benchmark}\n{benchmark_words(benchmark)}", loc="left")
        ax.set_xlabel(METRIC_WORDS[metric])
    return figure, axes, table


@styled
def scores(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Dot plot of all benchmarks and splits with intervals, chance and majority.

    Args:
        frame: the table `scores`.
        lineup: the subjects.
    """
    figure, axes, table = _panel_figure(frame, lineup)
    for ax, (benchmark, metric) in zip(axes, score_panels(table), strict=True):
        if benchmark == "naming":
            # Free naming may stay far below 1: its own scale, so that differences can be seen.
            least = 0.5 if metric == "cider" else 0.2
            ax.set_xlim(-0.02 * max(least, ax.get_xlim()[1]), max(least, ax.get_xlim()[1]))
        else:
            ax.set_xlim(-0.02, 1.02)
    legend_above(figure, [*subject_handles(lineup.present(table), lineup, line=False), *_marks()])
    return figure


@styled
def differences(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Dot plot of the paired differences to the reference with intervals.

    Args:
        frame: the table `differences`.
        lineup: the subjects.
    """
    figure, axes, table = _panel_figure(frame, lineup)
    reference = str(frame["reference"].iloc[0])
    for ax, (_, metric) in zip(axes, score_panels(table), strict=True):
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_xlabel(f"{METRIC_WORDS[metric].partition(' (')[0]}, minus {reference}")
    shared = [ax for ax, (_, m) in zip(axes, score_panels(table), strict=True) if m != "cider"]
    ends = [ax.get_xlim() for ax in shared]
    for ax in shared:
        ax.set_xlim(min(low for low, _ in ends), max(high for _, high in ends))
    legend_above(figure, subject_handles(lineup.present(table), lineup, line=False))
    return figure


@styled
def presence(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """The metrics of the yes-or-no benchmark for each kind of negative, one row per split.

    Args:
        frame: the table `scores`.
        lineup: the subjects.
    """
    rows = frame[frame["benchmark"] == "presence"]
    table = with_baselines(rows, ["split", "condition", "metric"])
    splits = splits_of(rows)
    names = lineup.present(table)
    height = len(CONDITIONS) * max(3, len(names)) * 0.13
    figure, axes = grid_of_axes(
        len(splits), len(PRESENCE_METRICS), row_height=height + 0.15, sharex=True, sharey=True
    )
    for index, split in enumerate(splits):
        for column, (metric, label) in enumerate(PRESENCE_METRICS.items()):
            ax = axes[index][column]
            part = table[(table["split"] == split) & (table["metric"] == metric)]
            groups = [
                (f"{name}\nn = {chosen['n'].min()}", chosen)
                for name in CONDITIONS
                if len(chosen := part[part["condition"] == name])
            ]
            dots(ax, table, groups, lineup)
            ax.set_xlim(-0.04, 1.04)
            ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
            if index == 0:
                ax.set_title(label)
        axes[index][0].set_ylabel(SPLIT_WORDS.get(split, split))
    legend_above(figure, [*subject_handles(names, lineup, line=False), *_marks()])
    return figure


def _marks() -> list[Any]:
    return [
        Line2D([], [], color="black", linewidth=0.9, label="chance"),
        Line2D([], [], color=MAJORITY, linewidth=3.0, label="majority answer"),
    ]
