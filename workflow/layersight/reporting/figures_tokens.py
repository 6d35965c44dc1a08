"""Figures of token clouds: one cloud a prompt, as it is and with its blocks shuffled."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layersight.reporting.figures_layers import (
    TEXT_PROBES,
    curves,
    nearest_k,
    rows_of,
    say_if_empty,
    subject_handles,
)
from layersight.reporting.lineup import PROBE_WORDS, Lineup, over_seeds, variant_of
from layersight.reporting.style import (
    LINES,
    MARKERS,
    grid_of_axes,
    layer_axis,
    legend_above,
    styled,
)

WANTED = {"gride": 16, "overlap": 2}
LABELS = {"gride": "intrinsic dimension", "overlap": "overlap with the\nlayer before"}
CORRELATIONS = {"pearson_log": "Pearson, log dimension", "spearman": "Spearman"}


def cloud_rows(frame: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Return the probe set that is drawn, and its rows without the first token.

    With pictures if there is one; with the first token where nothing else was measured.
    """
    probes = [probe for probe in PROBE_WORDS if (frame["probe"] == probe).any()]
    probe = next((name for name in probes if name not in TEXT_PROBES), probes[0])
    rows = rows_of(frame, probe=probe)
    without = rows[~rows["first_token"]]
    return probe, without if len(without) else rows


def of_metric(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of a number at one rank or number of neighbours, if it is defined there."""
    own = rows_of(rows, metric=metric)
    defined = own.dropna(subset=["value"])
    ranks = (defined if len(defined) else own)["k"]
    return rows_of(own, k=nearest_k(ranks, WANTED[metric])) if len(own) else own


def shuffled_variant(rows: pd.DataFrame, lineup: Lineup) -> str:
    """Return whose shuffled prompts are drawn: `aligned`, or the first that there is."""
    found = set(rows["subject"].map(variant_of))
    if "aligned" in found:
        return "aligned"
    return next(name for name in lineup.order if name in found)


def of_variant(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a variant, all seeds."""
    return rows[rows["subject"].map(variant_of) == name]


def levels_of(rows: pd.DataFrame) -> list[int]:
    """Return the levels of shuffling, S = 0 (as written) first."""
    return sorted(int(level) for level in set(rows["shuffle"]))


def _level_look(levels: list[int], level: int) -> dict[str, Any]:
    place = levels.index(level)
    share = 0.9 * place / max(1, len(levels) - 1)
    return {
        "color": colormaps["viridis"](share),
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[place % len(LINES)],
    }


def _levels(ax: Axes, rows: pd.DataFrame, levels: list[int]) -> None:
    """Draw one line a level of shuffling."""
    for level in levels:
        own = over_seeds(rows_of(rows, shuffle=level), ["layer"]).sort_values("layer")
        look = _level_look(levels, level)
        ax.plot(own["layer"], own["value"], markevery=max(1, len(own) // 8), **look)
        ax.fill_between(
            own["layer"], own["low"], own["high"], color=look["color"], alpha=0.18, linewidth=0
        )
    say_if_empty(ax, rows)


def _legend(
    figure: Figure, names: list[str], levels: list[int], lineup: Lineup, title: str
) -> None:
    words = {0: "S = 0\n(as written)"}
    handles = [
        Line2D([], [], label=words.get(level, f"S = {level}"), **_level_look(levels, level))
        for level in levels
    ]
    legend_above(figure, subject_handles(names, lineup), title)
    figure.legend(
        handles=handles, loc="outside right center", title="shuffled", title_fontsize=7
    )  # fmt: skip


@styled
def token_clouds(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Dimension and overlap of consecutive layers, all subjects and all levels of shuffling.

    Args:
        frame: the table `token_clouds`.
        lineup: the subjects.
    """
    probe, rows = cloud_rows(frame)
    name, levels = shuffled_variant(rows, lineup), levels_of(rows)
    figure, axes = grid_of_axes(len(LABELS), 2, row_height=1.8, sharex=True, sharey="row")
    layers = int(rows["layer"].max())
    for (left, right), (metric, label) in zip(axes, LABELS.items(), strict=True):
        own = of_metric(rows, metric)
        written = rows_of(own, shuffle=levels[0])
        curves(left, written, lineup)
        say_if_empty(left, written)
        _levels(right, of_variant(own, name), levels)
        k = int(own["k"].max()) if len(own) else 0
        rank = f"n2 = {k}" if metric == "gride" else f"k = {k}"
        left.set_ylabel(f"{label}\n({rank})")
        for ax in (left, right):
            layer_axis(ax, layers, "layer" if metric == list(LABELS)[-1] else None)
    axes[0][0].set_title("prompts as written, all subjects")
    axes[0][1].set_title(f"blocks of tokens shuffled, {name}")
    names = lineup.present(over_seeds(rows, []))
    _legend(figure, names, levels, lineup, f"token clouds of {PROBE_WORDS[probe]}")
    return figure


def loss_rows(frame: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Return the probe set that is drawn, and its correlations at one rank."""
    probe, rows = cloud_rows(frame)
    return probe, of_metric(rows, "gride")


@styled
def token_cloud_loss(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Correlation of dimension and loss over prompts, all subjects and all levels of shuffling.

    Args:
        frame: the table `token_cloud_loss`.
        lineup: the subjects.
    """
    probe, rows = loss_rows(frame)
    name, levels = shuffled_variant(rows, lineup), levels_of(rows)
    figure, axes = grid_of_axes(1, 3, row_height=2.3, sharex=True, sharey=True)
    left, middle, right = axes[0]
    layers = int(rows["layer"].max())
    for ax, correlation in zip((left, middle), CORRELATIONS, strict=True):
        own = rows_of(rows, shuffle=levels[0], correlation=correlation)
        curves(ax, own, lineup)
        say_if_empty(ax, own)
        ax.set_title(f"{CORRELATIONS[correlation]}\nas written, all subjects")
    _levels(right, of_variant(rows_of(rows, correlation="pearson_log"), name), levels)
    right.set_title(f"{CORRELATIONS['pearson_log']}\nblocks shuffled, {name}")
    for ax in (left, middle, right):
        ax.axhline(0.0, color="#000000", linewidth=0.7, zorder=1.5)
        layer_axis(ax, layers)
    left.set_ylabel(f"correlation with the loss\n(n2 = {int(rows['k'].max())})")
    names = lineup.present(over_seeds(rows, []))
    _legend(figure, names, levels, lineup, f"token clouds of {PROBE_WORDS[probe]}")
    return figure
