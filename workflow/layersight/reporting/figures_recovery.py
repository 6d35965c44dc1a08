"""How much of the gain of tuning a window of blocks carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from layersight.reporting.lineup import Lineup, over_seeds
from layersight.reporting.style import grid_of_axes, layer_ticks, legend_above, styled

METRIC_WORDS = {"accuracy": "accuracy", "logit_margin": "logit margin"}
SCORE_UNITS = {"accuracy": "accuracy", "logit_margin": "logit margin (nats)"}
# A shorter axis would blow noise up to the size of an effect.
SMALLEST_SPANS = {"accuracy": 0.2, "logit_margin": 0.5}


@dataclass(frozen=True)
class Direction:
    """How one direction of patching is drawn and called."""

    words: str
    color: str
    marker: str
    fill: Any
    linestyle: Any


DIRECTIONS = {
    "tuned_into_base": Direction("tuned blocks into aligned", "#0072B2", "o", "full", "-"),
    "base_into_tuned": Direction("aligned blocks into tuned", "#D55E00", "s", "none", "--"),
}


def gain_is_clear(rows: pd.DataFrame, level: float) -> bool:
    """Whether recovery means something: tuned beats aligned, and not by accident.

    Args:
        rows: rows of one variant and metric.
        level: level of the intervals. The gain's interval reaches zero when the tuned model fails
            to beat the aligned one in more than `(1 - level) / 2` of the resamples.
    """
    windows = rows[rows["sweep"] != "reference"]
    if windows.empty or windows["recovery"].isna().any():
        return False
    return bool((windows["undefined_share"] <= (1 - level) / 2).all())


def by_window(rows: pd.DataFrame, *, raw: bool) -> pd.DataFrame:
    """Recovery or, if `raw`, the score itself of every window, over seeds."""
    value = "score" if raw else "recovery"
    keys = ["metric", "direction", "sweep", "start", "stop", "connector"]
    return over_seeds(rows, keys, value, f"{value}_low", f"{value}_high")


@styled
def recovery_cumulative(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Recovery of the windows [0, l) against l, with the connector's share beside it.

    Args:
        frame: the table `recovery`.
        lineup: the subjects and their block ranges.
    """
    return _draw(frame, lineup, "cumulative")


@styled
def recovery_sliding(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Recovery of the windows [s, s + width), each drawn over the blocks it covers.

    Args:
        frame: the table `recovery`.
        lineup: the subjects and their block ranges.
    """
    return _draw(frame, lineup, "sliding")


def _draw(frame: pd.DataFrame, lineup: Lineup, sweep: str) -> Figure:
    names = lineup.present(frame)
    metrics = [metric for metric in METRIC_WORDS if metric in set(frame["metric"])]
    layers = int(frame["stop"].max())
    figure, axes = grid_of_axes(len(names), len(metrics), row_height=1.6)
    for row, name in enumerate(names):
        for column, metric in enumerate(metrics):
            ax = axes[row][column]
            rows = frame[(frame["variant"] == name) & (frame["metric"] == metric)]
            raw = not gain_is_clear(rows, lineup.level)
            _guides(ax, rows, raw)
            for start, stop in lineup.ranges.get(name, []):
                ax.axvspan(start, stop, color="#eeeeee", zorder=0, linewidth=0)
            table = by_window(rows, raw=raw)
            for key, direction in DIRECTIONS.items():
                part = table[table["direction"] == key]
                if sweep == "cumulative":
                    _cumulative(ax, part, direction)
                else:
                    _sliding(ax, part, direction, shift=0.12 if key == "base_into_tuned" else -0.12)
                _references(ax, part, direction, layers)
            _widen(ax, SMALLEST_SPANS[metric] if raw else 1.2)
            _axis(ax, layers)
            ax.set_title(f"{name}: {'raw score, no clear gain' if raw else METRIC_WORDS[metric]}")
            ax.set_ylabel(SCORE_UNITS[metric] if raw else "recovery")
            if row == len(names) - 1:
                ax.set_xlabel("window [0, l) ends at l" if sweep == "cumulative" else "block")
    legend_above(figure, _legend(any(name in lineup.ranges for name in names)))
    return figure


def _guides(ax: Axes, rows: pd.DataFrame, raw: bool) -> None:
    aligned, tuned = (
        (float(rows["score_base"].mean()), float(rows["score_tuned"].mean())) if raw else (0.0, 1.0)
    )
    ax.axhline(aligned, color="#5a5a5a", linewidth=0.8)
    ax.axhline(tuned, color="black", linewidth=0.8, linestyle=(0, (1, 1)))


def _widen(ax: Axes, span: float) -> None:
    low, high = ax.get_ylim()
    missing = max(0.0, span - (high - low)) / 2
    ax.set_ylim(low - missing, high + missing)


def _errors(ax: Axes, x: Sequence[float], part: pd.DataFrame, direction: Direction) -> None:
    ax.vlines(x, part["low"], part["high"], colors=direction.color, linewidth=0.8)


def _cumulative(ax: Axes, part: pd.DataFrame, direction: Direction) -> None:
    # The unpatched target is the window [0, 0): the curve starts there.
    start = part[(part["sweep"] == "reference") & (part["connector"] == "target")]
    windows = part[part["sweep"] == "cumulative"]
    curve = pd.concat([start, windows[windows["stop"] > 0]]).sort_values("stop")
    ax.plot(
        curve["stop"], curve["value"],
        color=direction.color, marker=direction.marker, fillstyle=direction.fill,
        linestyle=direction.linestyle,
    )  # fmt: skip
    _errors(ax, curve["stop"].tolist(), curve, direction)


def _sliding(ax: Axes, part: pd.DataFrame, direction: Direction, shift: float) -> None:
    windows = part[part["sweep"] == "sliding"].sort_values("start")
    centres = [
        (start + stop) / 2 + shift * (stop - start)
        for start, stop in zip(windows["start"], windows["stop"], strict=True)
    ]
    ax.hlines(
        windows["value"], windows["start"], windows["stop"], colors=direction.color, linewidth=1.3,
        linestyles=direction.linestyle,
    )  # fmt: skip
    ax.plot(
        centres, windows["value"],
        color=direction.color, marker=direction.marker, fillstyle=direction.fill, linestyle="none",
    )  # fmt: skip
    _errors(ax, centres, windows, direction)


def _reference_positions(layers: int) -> tuple[float, float]:
    return layers * 1.1 + 0.3, layers * 1.24 + 0.6


def _references(ax: Axes, part: pd.DataFrame, direction: Direction, layers: int) -> None:
    points = part[part["sweep"] == "connector"].sort_values("stop")
    alone, everything = _reference_positions(layers)
    shift = 0.015 * layers * (1 if direction.fill == "none" else -1)
    places = [(alone if stop == 0 else everything) + shift for stop in points["stop"]]
    ax.plot(
        places, points["value"],
        color=direction.color, marker=direction.marker, fillstyle=direction.fill, linestyle="none",
    )  # fmt: skip
    _errors(ax, places, points, direction)


def _axis(ax: Axes, layers: int) -> None:
    alone, everything = _reference_positions(layers)
    ticks = layer_ticks(layers)
    ax.set_xticks([*ticks, alone, everything], [*(str(tick) for tick in ticks), "C", "C+B"])
    ax.axvline((layers + alone) / 2, color="#999999", linewidth=0.6)
    ax.set_xlim(-0.03 * layers - 0.1, everything + 0.06 * layers)


def _legend(ranges: bool) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Line2D(
            [], [], color=d.color, marker=d.marker, fillstyle=d.fill, linestyle=d.linestyle,
            label=d.words,
        )
        for d in DIRECTIONS.values()
    ]  # fmt: skip
    handles += [
        Line2D([], [], color="#5a5a5a", linewidth=0.8, label="aligned (0)"),
        Line2D([], [], color="black", linewidth=0.8, linestyle=(0, (1, 1)), label="tuned (1)"),
        Line2D([], [], linestyle="none", label="C: connector, C+B: and all blocks"),
    ]
    if ranges:
        handles.append(Patch(color="#eeeeee", label="blocks the variant may change"))
    return handles
