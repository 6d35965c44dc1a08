"""Figures of the shape of a cloud: spectrum, anisotropy, and massive activations."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from layersight.reporting.figures_change import change_panels
from layersight.reporting.figures_grid import Row, line_grid
from layersight.reporting.figures_layers import (
    curves,
    leading,
    main_streams,
    panel_title,
    rows_of,
    say_if_empty,
    subject_handles,
)
from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds
from layersight.reporting.style import (
    FULL_WIDTH,
    LINES,
    MARKERS,
    OKABE_ITO,
    layer_axis,
    legend_above,
    styled,
)

SHAPES = (
    Row("spectrum_entropy", "entropy\n(share of largest)"),
    Row("effective_rank", "effective rank", floor=1.0),
    Row("participation_ratio", "participation\nratio", floor=1.0),
    Row("anisotropy", "anisotropy\n(mean cosine)"),
)
MOST_DIMENSIONS = 6


@styled
def spectrum(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Entropy, ranks and anisotropy per layer, inputs with a picture and without side by side.

    Args:
        frame: the table `spectrum`.
        lineup: the subjects.
    """
    columns = [
        (panel_title(probe, stream), rows_of(frame, probe=probe, stream=stream))
        for probe, stream in change_panels(frame)
    ]
    return line_grid(columns, SHAPES, lineup, row_height=1.35)


def massive_cloud(frame: pd.DataFrame) -> tuple[str, str]:
    """Return the probe set and stream whose massive activations are drawn."""
    return leading(main_streams(frame))


def largest_values(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the largest magnitude of any dimension, one row a subject and layer.

    Args:
        frame: rows of the table `massive` of one probe set and stream.
    """
    rows = frame.assign(value=frame["largest"].abs())
    found = rows.groupby(["subject", "layer"], sort=False)["value"].max().reset_index()
    return found.assign(low=found["value"], high=found["value"], n=1)


def leading_dimensions(frame: pd.DataFrame, most: int = MOST_DIMENSIONS) -> list[int]:
    """Return the dimensions with the largest magnitudes at any layer, largest first.

    Args:
        frame: rows of the table `massive` of one subject.
    """
    peaks = frame.assign(size=frame["largest"].abs()).groupby("dimension")["size"].max()
    return [int(name) for name in peaks.sort_values(ascending=False, kind="stable").index[:most]]


def shown_subject(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Return `aligned`, or the first subject that there is."""
    subjects = list(dict.fromkeys(frame["subject"]))
    if "aligned" in subjects:
        return "aligned"
    return min(subjects, key=lambda name: lineup.order.index(name.partition("/seed-")[0]))


@styled
def massive(frame: pd.DataFrame, measures: pd.DataFrame, lineup: Lineup) -> Figure:
    """Largest value, share of the norm along massive dimensions, and which dimensions they are.

    Args:
        frame: the table `massive`.
        measures: the table `spectrum`.
        lineup: the subjects.
    """
    probe, stream = massive_cloud(frame)
    cloud = {"probe": probe, "stream": stream}
    rows, shares = rows_of(frame, **cloud), rows_of(measures, **cloud, metric="massive_norm_share")
    figure = Figure(figsize=(FULL_WIDTH, 2.5), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    layers = int(rows["layer"].max())
    sizes = largest_values(rows)
    curves(left, sizes, lineup)
    left.set_yscale("log")
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.set_ylabel("largest magnitude")
    left.set_title("largest value of any dimension")
    curves(middle, shares, lineup)
    middle.set_ylabel("share of squared length")
    middle.set_title("along massive dimensions")
    middle.set_ylim(-0.03, 1.03)
    subject = shown_subject(rows, lineup)
    _dimensions(right, rows_of(rows, subject=subject), subject)
    for ax, part in ((left, sizes), (middle, shares), (right, rows)):
        layer_axis(ax, layers)
        say_if_empty(ax, part, "value" if "value" in part else "largest")
    names = lineup.present(over_seeds(sizes, []))
    what = f"{PROBE_WORDS[probe]}, {STREAM_WORDS[stream]}"
    legend_above(figure, subject_handles(names, lineup), what)
    figure.legend(
        handles=right.get_lines(), loc="outside right center", title="dimension", title_fontsize=7
    )
    return figure


def _dimensions(ax: Axes, rows: pd.DataFrame, subject: str) -> None:
    """Draw the magnitude of single dimensions; a dimension is reported where it is large."""
    layers = sorted(set(rows["layer"]))
    for index, dimension in enumerate(leading_dimensions(rows)):
        own = rows_of(rows, dimension=dimension).set_index("layer")["largest"].abs()
        ax.plot(
            layers,
            own.reindex(layers),
            color=OKABE_ITO[index],
            marker=MARKERS[index],
            linestyle=LINES[index % len(LINES)],
            markevery=max(1, len(layers) // 8),
            label=str(dimension),
        )
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_title(f"single dimensions, {subject}")
    ax.set_ylabel("largest magnitude")
