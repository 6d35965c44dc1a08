"""Figures of what tuning changed: representations per layer and weights per block."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from layersight.reporting.figures_layers import (
    curves,
    panel_title,
    probe_streams,
    say_if_empty,
    subject_handles,
    with_pictures,
)
from layersight.reporting.lineup import Lineup, over_seeds
from layersight.reporting.style import FULL_WIDTH, grid_of_axes, layer_axis, legend_above, styled

CHANGES = {
    "overlap": "1 − overlap",
    "cka": "1 − CKA",
    "relative_norm": "relative norm",
}


def against(frame: pd.DataFrame, reference: str = "aligned") -> pd.DataFrame:
    """Keep the comparisons with one reference, or all if none is with that one."""
    chosen = frame[frame["reference"] == reference]
    return chosen if len(chosen) else frame


def as_change(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of a metric as a change that is 0 where nothing moved."""
    rows = frame[frame["metric"] == metric].copy()
    if metric != "relative_norm":
        rows[["value", "low", "high"]] = 1 - rows[["value", "high", "low"]].to_numpy()
    return rows


def change_panels(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the probe sets and streams that stand side by side: with a picture and without."""
    pairs = [*probe_streams(frame, last=True), *probe_streams(frame, last=False)]
    pictured = with_pictures(pairs)
    wordy = [pair for pair in pairs if pair not in pictured]
    return [*pictured[:1], *wordy[:1]]


@styled
def overlap_tuned(frame: pd.DataFrame, lineup: Lineup, *, last: bool = True) -> Figure:
    """Share of neighbours kept between aligned and tuned, per layer, one panel per probe set.

    Args:
        frame: the table `change`.
        lineup: the subjects.
        last: the last prompt token; otherwise the means over tokens.
    """
    kept = against(frame)
    kept = kept[kept["metric"] == "overlap"]
    panels = probe_streams(kept, last=last)
    columns = min(len(panels), 2 if len(panels) <= 4 else 3)
    figure, axes = grid_of_axes(math.ceil(len(panels) / columns), columns, sharex=True, sharey=True)
    flat = [ax for row in axes for ax in row]
    layers = int(frame["layer"].max())
    for index, ax in enumerate(flat):
        ax.set_visible(index < len(panels))
        if index >= len(panels):
            continue
        probe, stream = panels[index]
        rows = kept[(kept["probe"] == probe) & (kept["stream"] == stream)]
        curves(ax, rows, lineup)
        ax.set_title(panel_title(probe, stream))
        ax.set_ylim(-0.02, 1.04)
        below = index + columns >= len(panels)
        layer_axis(ax, layers, None)
        ax.tick_params(labelbottom=below)
    for row in axes:
        row[0].set_ylabel("overlap with aligned")
    figure.supxlabel("layer", fontsize=8)
    legend_above(figure, subject_handles(lineup.present(over_seeds(kept, [])), lineup))
    return figure


@styled
def change(frame: pd.DataFrame, weights: pd.DataFrame, lineup: Lineup) -> Figure:
    """Change of representations per layer by three metrics, and of weights per block.

    Args:
        frame: the table `change`.
        weights: the table `weight_change`.
        lineup: the subjects.
    """
    table = against(frame)
    panels = change_panels(table)
    figure = Figure(figsize=(FULL_WIDTH, 0.6 + 1.35 * (len(CHANGES) + 1)), layout="constrained")
    grid = figure.add_gridspec(len(CHANGES) + 1, len(panels))
    layers = int(table["layer"].max())
    for row, (metric, label) in enumerate(CHANGES.items()):
        shared = None
        for column, (probe, stream) in enumerate(panels):
            ax = figure.add_subplot(grid[row, column], sharey=shared)
            shared = shared or ax
            part = as_change(table, metric)
            part = part[(part["probe"] == probe) & (part["stream"] == stream)]
            curves(ax, part, lineup)
            say_if_empty(ax, part)
            bottom = row == len(CHANGES) - 1
            layer_axis(ax, layers, "layer" if bottom else None)
            ax.tick_params(labelbottom=bottom, labelleft=column == 0)
            if row == 0:
                ax.set_title(panel_title(probe, stream))
            if column == 0:
                ax.set_ylabel(label)
        # Only now: setting one end of a shared axis stops it from growing with later panels.
        _from_zero(ax)
    ax = figure.add_subplot(grid[len(CHANGES), :])
    percent = weights.assign(
        value=100 * weights["relative_change"],
        low=100 * weights["relative_change"],
        high=100 * weights["relative_change"],
        n=1,
    )
    curves(ax, percent, lineup, x="block", drawstyle="steps-mid")
    layer_axis(ax, int(weights["block"].max()), "block")
    _from_zero(ax)
    ax.set_ylabel("weights (%)")
    ax.set_title("change of the block's weights, relative to their norm")
    legend_above(figure, subject_handles(lineup.present(over_seeds(percent, [])), lineup))
    return figure


def _from_zero(ax: Axes) -> None:
    """Let the vertical axis begin at zero, with a little room above the highest line."""
    low, high = ax.get_ylim()
    ax.set_ylim(min(0.0, low), high + 0.05 * (high - low))
