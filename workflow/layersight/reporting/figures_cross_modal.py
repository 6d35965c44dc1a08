"""Figures of how far the representation of a picture agrees with that of its words."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from layersight.reporting.figures_layers import curves, say_if_empty, subject_handles
from layersight.reporting.lineup import Lineup, over_seeds
from layersight.reporting.style import GUIDE, grid_of_axes, layer_axis, legend_above, styled

PAIR_WORDS = {"concepts": "picture | name", "questions": "question with picture | with text"}
STREAM_SHORT = {"last": "last token", "image_mean": "image mean", "text_mean": "text mean"}

OVERLAPS = {"overlap": "overlap", "overlap_within_group": "overlap within kind"}
CKAS = {"cka": "CKA"}
COSINES = {"cosine": "cosine", "cosine_centred": "cosine, centred"}


def pairings(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the (pair, stream_image, stream_text) of a frame in a fixed order."""
    columns = ["pair", "stream_image", "stream_text"]
    found = set(frame[columns].itertuples(index=False, name=None))
    order = [*PAIR_WORDS]
    return sorted(
        found, key=lambda key: (order.index(key[0]), key[1] != "last", key[2] != "last", key)
    )


def pairing_title(pair: str, stream_image: str, stream_text: str) -> str:
    """Name of a panel, on two lines."""
    first, second = STREAM_SHORT[stream_image], STREAM_SHORT[stream_text]
    streams = first if first == second else f"{first} | {second}"
    return f"{PAIR_WORDS[pair]}\n{streams}"


@styled
def cross_modal(frame: pd.DataFrame, lineup: Lineup, *, metrics: Mapping[str, str]) -> Figure:
    """Agreement of the two modalities per layer, with wrong pairs as the control.

    Args:
        frame: the table `cross_modal`.
        lineup: the subjects.
        metrics: metric to the label of its row of panels; `<metric>_random_pairs` is its control.
    """
    columns = pairings(frame)
    figure, axes = grid_of_axes(
        len(metrics), len(columns), row_height=1.75, sharex=True, sharey="row"
    )
    layers = int(frame["layer"].max())
    has_control = False
    for row, (metric, label) in enumerate(metrics.items()):
        for column, key in enumerate(columns):
            ax = axes[row][column]
            part = frame[
                (frame["pair"] == key[0])
                & (frame["stream_image"] == key[1])
                & (frame["stream_text"] == key[2])
            ]
            control = part[part["metric"] == f"{metric}_random_pairs"]
            if len(control):
                has_control = True
                curves(ax, control, lineup, band=False, linewidth=0.8, linestyle=":", marker="")
            chosen = part[part["metric"] == metric]
            curves(ax, chosen, lineup)
            say_if_empty(ax, chosen)
            if row == 0:
                ax.set_title(pairing_title(*key), fontsize=7 if len(columns) > 2 else 8)
            bottom = row == len(metrics) - 1
            layer_axis(ax, layers, "layer" if bottom else None)
            if len(columns) > 2:
                ax.set_xticks([0, *([layers // 2] if layers > 1 else []), layers])
        axes[row][0].set_ylabel(label)
    handles = subject_handles(lineup.present(over_seeds(frame, [])), lineup)
    if has_control:
        handles.append(
            Line2D([], [], color=GUIDE, linewidth=0.8, linestyle=":", label="wrong pairs")
        )
    legend_above(figure, handles)
    return figure
