"""Curves over layers: what all figures with a layer axis share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds
from layersight.reporting.style import handle

TEXT_PROBES = ("text_questions", "pair_texts")


def probe_streams(frame: pd.DataFrame, *, last: bool) -> list[tuple[str, str]]:
    """Return the pairs of probe set and stream in a frame, probe sets in a fixed order.

    Args:
        frame: with the columns `probe` and `stream`.
        last: the last prompt token if true, the means over tokens if false.
    """
    pairs = set(zip(frame["probe"], frame["stream"], strict=True))
    return [
        (probe, stream)
        for probe in PROBE_WORDS
        for stream in STREAM_WORDS
        if (probe, stream) in pairs and (stream == "last") == last
    ]


def with_pictures(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of the pairs whose probe set shows pictures."""
    return [pair for pair in pairs if pair[0] not in TEXT_PROBES]


def main_streams(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return every probe set with its last token, or where that is not read with its means."""
    return probe_streams(frame, last=True) or probe_streams(frame, last=False)


def rows_of(frame: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Return the rows whose columns have the given values."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def nearest_k(values: pd.Series, wanted: int = 10) -> int:
    """Return the number of neighbours that curves are drawn at: `wanted`, or the next below it."""
    found = sorted(int(value) for value in set(values) if value > 0)
    return max((value for value in found if value <= wanted), default=found[0])


def leading(pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the pair that stands for all: the first with pictures, if there are any."""
    return (with_pictures(pairs) or list(pairs))[0]


def panel_title(probe: str, stream: str) -> str:
    """Name of a panel that shows one stream of one probe set."""
    if stream == "last":
        return PROBE_WORDS[probe]
    return f"{PROBE_WORDS[probe]}, {STREAM_WORDS[stream]}"


def curves(
    ax: Axes,
    frame: pd.DataFrame,
    lineup: Lineup,
    *,
    x: str = "layer",
    value: str = "value",
    low: str = "low",
    high: str = "high",
    band: bool = True,
    **line: Any,
) -> None:
    """Draw one line with its band for every variant, `aligned` and `base`.

    Args:
        ax: where to draw.
        frame: one row per subject and `x`; NaN leaves a gap.
        lineup: order, looks and seeds.
        x: column of the abscissa.
        value: column of the ordinate.
        low: column of the band's lower end.
        high: column of the band's upper end.
        band: whether to draw the band.
        line: settings that override the look's.
    """
    table = over_seeds(frame, [x], value, low, high)
    for name in lineup.present(table):
        rows = table[table["variant"] == name].sort_values(x)
        look = lineup.looks[name]
        settings: dict[str, Any] = {
            "color": look.color,
            "linestyle": look.linestyle,
            "marker": look.marker,
            "markevery": max(1, len(rows) // 8),
        } | line
        ax.plot(rows[x], rows["value"], **settings)
        if band:
            ax.fill_between(
                rows[x], rows["low"], rows["high"], color=look.color, alpha=0.18, linewidth=0
            )


def subject_handles(names: Sequence[str], lineup: Lineup, *, line: bool = True) -> list[Any]:
    """Legend entries of subjects."""
    return [handle(lineup.looks[name], name, line=line) for name in names]


def say_if_empty(ax: Axes, frame: pd.DataFrame, value: str = "value") -> None:
    """Write into an axis that nothing is defined, or measured at all, where that is so."""
    if frame[value].notna().sum() == 0:
        words = "not defined" if len(frame) else "not measured"
        ax.text(
            0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color="#555555"
        )  # fmt: skip
        # Not `set_yticks`, which would clear panels that share the axis.
        ax.tick_params(axis="y", left=False, labelleft=False)
