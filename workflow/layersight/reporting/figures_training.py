"""Training curves."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from layersight.reporting.figures_layers import subject_handles
from layersight.reporting.lineup import Lineup, variant_of
from layersight.reporting.style import grid_of_axes, legend_above, styled

ROWS = {"loss": "loss (nats per token)", "gradient_norm": "gradient norm"}


def smoothed(values: pd.Series) -> pd.Series:
    """Centred running mean over a tenth of the steps, at least five."""
    window = max(5, len(values) // 10)
    return values.rolling(window, center=True, min_periods=1).mean()


@styled
def training(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Loss and gradient norm per step: stage 1 left, stage 2 right; raw thin, smoothed thick.

    Args:
        frame: the table `training`.
        lineup: the subjects.
    """
    data = frame.assign(variant=frame["subject"].map(variant_of))
    stages = {
        "feature alignment": data[data["variant"] == "aligned"],
        "visual instruction tuning": data[data["variant"] != "aligned"],
    }
    shown = {title: rows for title, rows in stages.items() if len(rows)}
    figure, axes = grid_of_axes(len(ROWS), len(shown), sharex="col", row_height=1.6)
    for column, (title, rows) in enumerate(shown.items()):
        for row, (quantity, label) in enumerate(ROWS.items()):
            ax = axes[row][column]
            for name in lineup.present(rows):
                look = lineup.looks[name]
                for _, run in rows[rows["variant"] == name].groupby("subject", sort=True):
                    ax.plot(run["step"], run[quantity], color=look.color, alpha=0.3, linewidth=0.5)
                    ax.plot(
                        run["step"],
                        smoothed(run[quantity]),
                        color=look.color,
                        linestyle=look.linestyle,
                        marker=look.marker,
                        markevery=max(1, len(run) // 6),
                    )
            ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
            if column == 0:
                ax.set_ylabel(label)
        axes[0][column].set_title(title)
        axes[-1][column].set_xlabel("optimiser step")
    legend_above(figure, subject_handles(lineup.present(data), lineup))
    return figure
