"""Figures of the intrinsic dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from layersight.reporting.figures_layers import (
    curves,
    leading,
    main_streams,
    panel_title,
    probe_streams,
    rows_of,
    say_if_empty,
    subject_handles,
)
from layersight.reporting.figures_maps import left_note, limits, some_panels, subject_maps
from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds, variant_of
from layersight.reporting.style import GUIDE, grid_of_axes, layer_axis, legend_above, styled

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
    return leading(main_streams(frame))


@styled
def intrinsic_dimension_scales(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Heat maps of the GRIDE dimension over layers and neighbour ranks, one per subject.

    Dots mark the plateau, the scale around which the dimension depends least on the scale.

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
    shown = some_panels(names)
    plateaus = _plateaus(rows)
    ranks = sorted(table["n2"].unique())
    layers = int(frame["layer"].max())

    def mark(ax: Axes, name: str) -> None:
        own = plateaus[plateaus["variant"] == name]
        ax.plot(
            own["layer"], own["n2"].map(ranks.index), linestyle="none", marker="o", markersize=2.6,
            color="#ffffff", markeredgecolor="#000000", markeredgewidth=0.5,
        )  # fmt: skip

    figure, _ = subject_maps(
        [(name, table[table["variant"] == name]) for name in shown],
        y="n2",
        rows=ranks,
        last=layers,
        ylabel="neighbour rank n2",
        label="dimension",
        norm=limits(table["value"]),
        mark=mark,
    )
    note = left_note(names, shown, "intrinsic_dimension")
    what = f"{PROBE_WORDS[probe]}, {STREAM_WORDS[stream]}"
    figure.suptitle(f"{what} ({note})" if note else what, fontsize=8)
    return figure


def _plateaus(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rank that most seeds of a variant have their plateau at, layer by layer."""
    marked = rows[rows["plateau"]]
    counts = (
        marked.assign(variant=marked["subject"].map(variant_of))
        .groupby(["variant", "layer", "n2"])
        .size()
        .reset_index(name="seeds")
        .sort_values(["variant", "layer", "seeds", "n2"], ascending=[True, True, False, True])
    )
    return counts.drop_duplicates(["variant", "layer"])


def decimation_layers(layers: Sequence[int], most: int = 4) -> list[int]:
    """Return at most `most` layers, spread evenly from the first after the input to the last."""
    after = sorted(layer for layer in set(layers) if layer > 0) or sorted(set(layers))
    places = {round(i * (len(after) - 1) / max(1, most - 1)) for i in range(most)}
    return [int(after[place]) for place in sorted(places)]


def decimated(frame: pd.DataFrame) -> tuple[str, str, pd.DataFrame]:
    """Return probe set, stream and rows of the decimation curves, with `points` in each part."""
    probe, stream = scale_panel(frame)
    rows = rows_of(frame, probe=probe, stream=stream, estimator="two_nn_decimated")
    return probe, stream, rows


@styled
def dimension_decimation(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """TwoNN dimension over the number of points of a subset, at a few layers.

    Args:
        frame: the table `intrinsic_dimension`.
        lineup: the subjects.
    """
    probe, stream, rows = decimated(frame)
    layers = decimation_layers(rows["layer"])
    figure, axes = grid_of_axes(1, len(layers), row_height=2.1, sharex=True, sharey=True)
    table = over_seeds(rows, ["layer", "parts"], "dimension")
    table["points"] = table["n"] / table["parts"]
    for ax, layer in zip(axes[0], layers, strict=True):
        own = table[table["layer"] == layer]
        # Of one seed each: the seeds are averaged already.
        curves(ax, own, lineup, x="points")
        for name in lineup.present(own):
            flat = _flat_parts(rows, name, layer)
            marks = own[(own["variant"] == name) & own["parts"].isin(flat)]
            ax.plot(
                marks["points"], marks["value"], linestyle="none", marker="o", markersize=6,
                color="none", markeredgecolor=lineup.looks[name].color, markeredgewidth=1.0,
            )  # fmt: skip
        say_if_empty(ax, own)
        ax.set_xscale("log")
        ax.set_title(f"layer {layer}")
        ax.set_xlabel("vectors in a subset")
        _point_ticks(ax, table.dropna(subset=["value"])["points"])
    axes[0][0].set_ylabel("TwoNN dimension")
    handles = subject_handles(lineup.present(table), lineup)
    handles.append(
        Line2D(
            [], [], linestyle="none", marker="o", markersize=6, color="none",
            markeredgecolor=GUIDE, label="ringed: plateau",
        )
    )  # fmt: skip
    legend_above(figure, handles, f"{PROBE_WORDS[probe]}, {STREAM_WORDS[stream]}")
    return figure


def _flat_parts(rows: pd.DataFrame, name: str, layer: int) -> list[int]:
    own = rows[(rows["subject"].map(variant_of) == name) & (rows["layer"] == layer)]
    counts = own.loc[own["plateau"], "parts"].value_counts()
    return [int(part) for part in counts.index[:1]]


def _point_ticks(ax: Axes, points: pd.Series) -> None:
    """Label a log axis of counts at its ends and in the middle, with whole numbers."""
    found = sorted(set(points)) or [1.0]
    ticks = sorted({found[0], found[len(found) // 2], found[-1]})
    ax.set_xlim(0.8 * found[0], 1.25 * found[-1])
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
