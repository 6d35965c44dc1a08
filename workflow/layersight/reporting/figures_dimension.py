"""Figures of the intrinsic dimension."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layersight.reporting.figures_layers import (
    curves,
    leading,
    panel_title,
    probe_streams,
    say_if_empty,
    subject_handles,
)
from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds
from layersight.reporting.style import (
    GUIDE,
    grid_of_axes,
    layer_axis,
    layer_ticks,
    legend_above,
    styled,
)

REFERENCE_N2 = 16


def reference_scale(frame: pd.DataFrame) -> int:
    """Return the GRIDE rank that curves are drawn at: 16, or the largest below it."""
    ranks = sorted(frame.loc[frame["estimator"] == "gride", "n2"].unique())
    return int(max((rank for rank in ranks if rank <= REFERENCE_N2), default=ranks[0]))


@styled
def intrinsic_dimension(frame: pd.DataFrame, lineup: Lineup, *, last: bool = True) -> Figure:
    """Intrinsic dimension per layer, one panel per probe set and stream.

    Args:
        frame: the table `intrinsic_dimension`.
        lineup: the subjects.
        last: the last prompt token; otherwise the means over tokens.
    """
    panels = probe_streams(frame, last=last)
    columns = min(len(panels), 2 if len(panels) <= 4 else 3)
    figure, axes = grid_of_axes(math.ceil(len(panels) / columns), columns, sharex=True)
    scale = reference_scale(frame)
    layers = int(frame["layer"].max())
    flat = [ax for row in axes for ax in row]
    for ax, (probe, stream) in zip(flat, panels, strict=False):
        rows = frame[(frame["probe"] == probe) & (frame["stream"] == stream)]
        gride = rows[(rows["estimator"] == "gride") & (rows["n2"] == scale)]
        two_nn = rows[rows["estimator"] == "two_nn"]
        curves(
            ax, two_nn, lineup, value="dimension", band=False,
            linewidth=0.5, alpha=0.75, marker="", linestyle="-",
        )  # fmt: skip
        curves(ax, gride, lineup, value="dimension")
        ax.set_title(panel_title(probe, stream))
        say_if_empty(ax, rows, "dimension")
    for index, ax in enumerate(flat):
        below = index + columns >= len(panels)
        layer_axis(ax, layers, None)
        ax.tick_params(labelbottom=below)
        ax.set_visible(index < len(panels))
    for row in axes:
        row[0].set_ylabel("intrinsic dimension")
    figure.supxlabel("layer", fontsize=8)
    present = lineup.present(over_seeds(frame, [], "dimension"))
    estimators = [
        Line2D([], [], color=GUIDE, linewidth=1.3, label=f"thick: GRIDE, n2 = {scale}"),
        Line2D([], [], color=GUIDE, linewidth=0.5, label="thin: TwoNN"),
    ]
    legend_above(figure, [*subject_handles(present, lineup), *estimators])
    return figure


def scale_panel(frame: pd.DataFrame) -> tuple[str, str]:
    """Return the probe set and stream whose scales are drawn: with pictures, if there are any."""
    return leading(probe_streams(frame, last=True) or probe_streams(frame, last=False))


@styled
def intrinsic_dimension_scales(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Heat maps of the GRIDE dimension over layers and neighbour ranks, one per subject.

    Args:
        frame: the table `intrinsic_dimension`.
        lineup: the subjects.
    """
    probe, stream = scale_panel(frame)
    rows = frame[
        (frame["probe"] == probe) & (frame["stream"] == stream) & (frame["estimator"] == "gride")
    ]
    table = over_seeds(rows, ["layer", "n2"], "dimension")
    names = lineup.present(table)
    columns = min(4, len(names))
    figure, axes = grid_of_axes(
        math.ceil(len(names) / columns), columns, row_height=1.6, sharex=True, sharey=True
    )
    shades = Normalize(table["value"].min(), table["value"].max())
    flat = [ax for row in axes for ax in row]
    layers = int(frame["layer"].max())
    mesh = None
    for index, ax in enumerate(flat):
        ax.set_visible(index < len(names))
        if index >= len(names):
            continue
        grid = table[table["variant"] == names[index]].pivot(
            index="n2", columns="layer", values="value"
        )
        mesh = ax.imshow(
            grid.to_numpy(dtype=float),
            aspect="auto",
            origin="lower",
            cmap="cividis",
            norm=shades,
            extent=(-0.5, layers + 0.5, -0.5, len(grid) - 0.5),
            interpolation="nearest",
        )
        ax.grid(False)
        ax.set_facecolor("#ffffff")
        ax.set_title(names[index])
        # Every panel is narrow: half as many ticks as a wide axis has.
        ax.set_xticks(sorted({0, layer_ticks(layers)[len(layer_ticks(layers)) // 2], layers}))
        ax.set_yticks(range(len(grid)), [str(rank) for rank in grid.index])
        below = index + columns >= len(names)
        ax.tick_params(labelbottom=below)
        if below:
            ax.set_xlabel("layer")
    for row in axes:
        row[0].set_ylabel("neighbour rank n2")
    if mesh is not None:
        figure.colorbar(mesh, ax=flat, label="dimension", shrink=0.9, pad=0.01)
    figure.suptitle(f"{PROBE_WORDS[probe]}, {STREAM_WORDS[stream]}", fontsize=8)
    return figure
