"""Figures of how two clouds of the same items lie to each other: tuned and base, image and text."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from layersight.reporting.figures_grid import Row, line_grid
from layersight.reporting.figures_layers import leading, main_streams, rows_of
from layersight.reporting.figures_neighbours import compared, of_pair, pair_title, pairs_of
from layersight.reporting.lineup import PROBE_WORDS, Lineup
from layersight.reporting.style import styled

SHAPES = (
    Row("svcca", "SVCCA", control="svcca_random_pairs", floor=0.0),
    Row("dimension_correlation", "Id-Cor"),
)
GAPS = (
    Row("modality_gap", "gap between\nmean directions", control="modality_gap_swapped", floor=0.0),
    Row(
        "relative_centroid_distance", "centroid distance\n/ spread",
        control="relative_centroid_distance_swapped", floor=0.0,
    ),
)  # fmt: skip
MEDIANS = (
    Row("cosine_median", "median cosine", control="cosine_random_pairs_median"),
    Row(
        "centred_cosine_median", "median cosine,\ncentred",
        control="centred_cosine_random_pairs_median",
    ),
)  # fmt: skip
IMBALANCES = (
    Row("imbalance_x_to_y", "imbalance\nfirst → second", floor=0.0, ceiling=1.0),
    Row("imbalance_y_to_x", "imbalance\nsecond → first", floor=0.0, ceiling=1.0),
)


def modal_columns(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return titles and rows of all pairs of image and text."""
    rows = compared(frame, "image_text")
    return [(pair_title(pair), of_pair(rows, pair)) for pair in pairs_of(rows)]


def tuned_columns(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of the tuned subjects against their reference, one probe set."""
    rows = compared(frame, "tuned_base")
    if rows.empty:
        return []
    probe, stream = leading(main_streams(rows))
    reference = rows["reference"].iloc[0]
    title = f"tuned | {reference}\n{PROBE_WORDS[probe]}"
    return [(title, rows_of(rows, probe=probe, stream=stream))]


def columns_of(frame: pd.DataFrame, *, tuned: bool) -> list[tuple[str, pd.DataFrame]]:
    """Return all columns of a figure of alignment.

    Args:
        frame: the table `alignment`.
        tuned: whether tuned and base stand beside image and text.
    """
    return [*modal_columns(frame), *(tuned_columns(frame) if tuned else [])]


@styled
def alignment(
    frame: pd.DataFrame, lineup: Lineup, *, rows: Sequence[Row], tuned: bool = True,
    control: str = "wrong pairs",
) -> Figure:  # fmt: skip
    """Measures of two clouds, per layer.

    Args:
        frame: the table `alignment`.
        lineup: the subjects.
        rows: the measures.
        tuned: whether tuned and base stand beside image and text.
        control: what dotted lines are.
    """
    columns = columns_of(frame, tuned=tuned)
    return line_grid(columns, rows, lineup, row_height=1.65, control=control)
