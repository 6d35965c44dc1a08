"""Grids of curves over layers: one row a number, one column a probe set or a pairing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layersight.reporting.figures_layers import curves, say_if_empty, subject_handles
from layersight.reporting.lineup import Lineup, over_seeds
from layersight.reporting.style import GUIDE, grid_of_axes, layer_axis, legend_above

GUIDE_LINE: dict[str, Any] = {"color": "#000000", "linewidth": 0.8, "linestyle": (0, (4, 2))}


@dataclass(frozen=True)
class Row:
    """One row of panels.

    Attributes:
        metric: value of the column `metric` that is drawn.
        label: of the vertical axis, with its unit if it has one.
        control: metric drawn dotted, per subject; empty for none.
        guide: metric drawn as one dashed line for all subjects; empty for none.
        floor: value that the axis includes.
        ceiling: another one.
    """

    metric: str
    label: str
    control: str = ""
    guide: str = ""
    floor: float | None = None
    ceiling: float | None = None


def line_grid(
    columns: Sequence[tuple[str, pd.DataFrame]], rows: Sequence[Row], lineup: Lineup, *,
    control: str = "wrong pairs", guide: str = "chance", row_height: float = 1.55,
    sharey: bool = True, title: str | None = None,
) -> Figure:  # fmt: skip
    """Draw curves with bands over layers.

    Args:
        columns: title of the column and its rows: `subject`, `layer`, `metric`, `n`, `value`,
            `low`, `high`.
        rows: what each row shows.
        lineup: the subjects.
        control: what the dotted lines are, for the legend.
        guide: what the dashed line is, for the legend.
        row_height: inches.
        sharey: whether the panels of a row share their axis.
        title: of the whole figure.
    """
    frame = pd.concat([part for _, part in columns])
    figure, axes = grid_of_axes(
        len(rows), len(columns), row_height=row_height, sharex=True,
        sharey="row" if sharey else False,
    )  # fmt: skip
    layers = int(frame["layer"].max())
    for across, row in zip(axes, rows, strict=True):
        for ax, (_, part) in zip(across, columns, strict=True):
            _panel(ax, part, row, lineup)
            layer_axis(ax, layers, "layer" if row is rows[-1] else None)
            if len(columns) > 2:
                ax.set_xticks([0, *([layers // 2] if layers > 1 else []), layers])
        across[0].set_ylabel(row.label)
        for ax in across:
            low, high = ax.get_ylim()
            lowest = low if row.floor is None else min(low, row.floor)
            highest = high if row.ceiling is None else max(high, row.ceiling)
            ax.set_ylim(lowest, highest)
    for ax, (head, _) in zip(axes[0], columns, strict=True):
        ax.set_title(head, fontsize=7 if len(columns) > 2 else 8)
    handles = subject_handles(lineup.present(over_seeds(frame, [])), lineup)
    metrics = set(frame["metric"])
    if any(row.control in metrics for row in rows if row.control):
        handles.append(Line2D([], [], color=GUIDE, linewidth=0.8, linestyle=":", label=control))
    if any(row.guide in metrics for row in rows if row.guide):
        handles.append(Line2D([], [], label=guide, **GUIDE_LINE))
    legend_above(figure, handles, title)
    return figure


def _panel(ax: Axes, part: pd.DataFrame, row: Row, lineup: Lineup) -> None:
    if row.control:
        control = part[part["metric"] == row.control]
        curves(ax, control, lineup, band=False, linewidth=0.8, linestyle=":", marker="")
    if row.guide:
        level = part[part["metric"] == row.guide].groupby("layer")["value"].mean()
        ax.plot(level.index, level, zorder=1.8, **GUIDE_LINE)
    chosen = part[part["metric"] == row.metric]
    curves(ax, chosen, lineup)
    say_if_empty(ax, chosen)
