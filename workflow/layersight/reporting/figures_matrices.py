"""Figures of where tuning acts: every matrix of every block, and where change concentrates."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from layersight.reporting.figures_change import change_panels
from layersight.reporting.figures_layers import rows_of
from layersight.reporting.figures_maps import heat_map, left_note, limits, some_panels
from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds
from layersight.reporting.style import FULL_WIDTH, GUIDE, layer_ticks, legend_above, styled

WHOLE_BLOCK = "all"
MOST_VARIANTS = 8
METRIC_WORDS = {"overlap": "1 − overlap", "cka": "1 − CKA", "relative_norm": "relative norm"}


def matrix_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of both numbers, matrices that are not vectors only.

    Returns:
        Columns `variant`, `block`, `matrix`, `change` (%) and `rank` (NaN where nothing moved).
    """
    rows = frame[(frame["matrix"] != WHOLE_BLOCK) & (frame["largest_rank"] > 0)]
    keys = ["block", "matrix"]
    nothing = {"low": math.nan, "high": math.nan, "n": 1}
    change = over_seeds(rows.assign(**nothing), keys, "relative_change")
    rank = over_seeds(rows.assign(**nothing), keys, "effective_rank")
    table = change[["variant", *keys]].assign(change=100 * change["value"], rank=rank["value"])
    moved = table["change"] > 0
    return table.assign(change=table["change"].where(moved), rank=table["rank"].where(moved))


def matrix_names(frame: pd.DataFrame) -> list[str]:
    """Return the matrices in the order of the table."""
    return list(dict.fromkeys(frame["matrix"]))


def short_name(matrix: str) -> str:
    """Name of a matrix without what all have: `self_attn.q_proj.weight` is `q_proj`."""
    parts = matrix.removesuffix(".weight").split(".")
    return parts[-1]


@styled
def matrix_change(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Relative change and effective rank of every matrix, one row of maps a variant.

    Args:
        frame: the table `matrix_change`.
        lineup: the subjects.
    """
    table = matrix_rows(frame)
    names = lineup.present(table)
    shown = some_panels(names, MOST_VARIANTS)
    matrices = matrix_names(table)[::-1]
    height = 0.6 + len(shown) * (0.35 + 0.115 * len(matrices))
    figure = Figure(figsize=(FULL_WIDTH, height), layout="constrained")
    axes = figure.subplots(len(shown), 2, squeeze=False, sharex=True, sharey=True)
    last = int(table["block"].max())
    labels = [short_name(matrix) for matrix in matrices]
    labels = labels if len(set(labels)) == len(labels) else matrices
    kinds = (("change", "relative change (%)", _log(table["change"])),
             ("rank", "effective rank of the change", _log(table["rank"])))  # fmt: skip
    for column, (value, words, norm) in enumerate(kinds):
        mesh: Any = None
        for row, name in enumerate(shown):
            ax = axes[row][column]
            own = table[table["variant"] == name]
            mesh = heat_map(
                ax, own, x="block", y="matrix", rows=matrices, norm=norm, value=value
            )  # fmt: skip
            ax.set_title(name, fontsize=8)
            if own[value].isna().all():
                ax.text(
                    0.5, 0.5, "no matrix moved", transform=ax.transAxes, ha="center",
                    va="center", color="#555555",
                )  # fmt: skip
            ax.set_yticks(range(len(matrices)), labels, fontsize=6.5)
            ax.set_xticks(layer_ticks(last))
        axes[-1][column].set_xlabel("block")
        figure.colorbar(
            mesh, ax=[row[column] for row in axes], label=words, location="top", shrink=0.8,
            aspect=40, pad=0.01, format=FuncFormatter(lambda number, _: f"{number:g}"),
        )  # fmt: skip
    note = left_note(names, shown, "matrix_change")
    if note:
        figure.supxlabel(note, fontsize=7)
    return figure


def _log(values: pd.Series) -> Normalize:
    found = limits(values)
    low, high = float(found.vmin or 0.0), float(found.vmax or 1.0)
    return LogNorm(low, max(high, low * 1.01)) if low > 0 else found


def concentration_panels(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of every profile that is drawn: layers of one probe set, then blocks.

    Args:
        frame: the table `concentration`.
    """
    layers = rows_of(frame, unit="layer")
    if (layers["reference"] == "aligned").any():
        layers = rows_of(layers, reference="aligned")
    panels = []
    if len(layers):
        probe, stream = change_panels(layers)[0]
        own = rows_of(layers, probe=probe, stream=stream)
        panels += [
            (words, rows_of(own, metric=metric))
            for metric, words in METRIC_WORDS.items()
            if (own["metric"] == metric).any()
        ]
    weights = rows_of(frame, unit="block", metric=WHOLE_BLOCK)
    if len(weights):
        panels.append(("change of weights", weights))
    return panels


def places(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row a variant: the centre, its interval and range over seeds, and the window.

    Args:
        rows: rows of the table `concentration` of one profile.

    Returns:
        Columns `variant`, `centre`, `low`, `high` (NaN for one seed), `smallest`, `largest`,
        `start`, `stop`, `width`, `positions` and `seeds`.
    """
    wide = rows.pivot(index="variant", columns="measure", values="value")
    centre = rows_of(rows, measure="centre").set_index("variant")
    return pd.DataFrame(
        {
            "centre": wide["centre"],
            "low": centre["low"],
            "high": centre["high"],
            "smallest": centre["smallest"],
            "largest": centre["largest"],
            "start": wide["window_start"],
            "stop": wide["window_stop"],
            "width": wide["window_width"],
            "positions": centre["positions"],
            "seeds": centre["seeds"],
        }
    ).reset_index()


def even(positions: int, unit: str, share: float) -> tuple[float, int]:
    """Return centre and window width of a change that is the same everywhere.

    Layers count from 1, since layer 0 is the input; blocks count from 0.

    Args:
        positions: how many layers or blocks there are.
        unit: "layer" or "block".
        share: of the change that the window holds.
    """
    first = 1 if unit == "layer" else 0
    return first + (positions - 1) / 2, math.ceil(positions * share - 1e-9)


def first_probe(frame: pd.DataFrame) -> str:
    """Return in words the probe set whose representations are drawn."""
    layers = rows_of(frame, unit="layer")
    if layers.empty:
        return ""
    probe, stream = change_panels(layers)[0]
    return f"{PROBE_WORDS[probe]}, {STREAM_WORDS[stream]}"


@styled
def concentration(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Centre of mass and smallest window with half of the change, one row a variant.

    Args:
        frame: the table `concentration`.
        lineup: the subjects.
    """
    panels = concentration_panels(frame)
    names = lineup.present(frame)
    height = 0.95 + 0.19 * max(3, len(names))
    figure = Figure(figsize=(FULL_WIDTH, height), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for ax, (title, rows) in zip(axes, panels, strict=True):
        unit = str(rows["unit"].iloc[0])
        _panel(ax, places(rows), names, unit, lineup)
        ax.set_title(title)
        ax.set_xlabel(unit)
    level = f"{100 * lineup.level:g}"
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    where = first_probe(frame)
    legend_above(
        figure,
        [
            Line2D([], [], color=GUIDE, marker="o", linestyle="none", label="centre of mass"),
            Line2D([], [], color=GUIDE, linewidth=2.2, label="range over seeds"),
            Line2D([], [], color=GUIDE, linewidth=0.7, label=f"{level} % interval"),
            Patch(color=GUIDE, alpha=0.3, linewidth=0, label=f"window with {lineup.share_words}"),
            Line2D([], [], color="#000000", linewidth=0.8, linestyle=(0, (4, 2)),
                   label="even change"),
        ],
        f"representations: {where}" if where else None,
    )  # fmt: skip
    return figure


def _panel(ax: Axes, table: pd.DataFrame, names: list[str], unit: str, lineup: Lineup) -> None:
    first = 1 if unit == "layer" else 0
    positions = int(table["positions"].max())
    ax.axvline(
        even(positions, unit, lineup.share)[0],
        color="#000000",
        linewidth=0.8,
        linestyle=(0, (4, 2)),
        zorder=1.5,
    )
    for row in table.to_dict("records"):
        if row["variant"] not in names:
            continue
        y, look = names.index(row["variant"]), lineup.looks[row["variant"]]
        if math.isnan(row["centre"]):
            ax.text(first, y, "no change", va="center", color="#555555", fontsize=6.5)
            continue
        ax.barh(
            y, row["stop"] - row["start"], left=row["start"] - 0.5, height=0.62,
            color=look.color, alpha=0.3, linewidth=0,
        )  # fmt: skip
        ax.plot([row["low"], row["high"]], [y, y], color=look.color, linewidth=0.7)
        ax.plot([row["smallest"], row["largest"]], [y, y], color=look.color, linewidth=2.2)
        ax.plot([row["centre"]], [y], color=look.color, marker="o", markersize=4)
    last = first + positions - 1
    ax.set_xlim(first - 0.7, last + 0.7)
    ax.set_xticks(sorted({first, *layer_ticks(last)[2::2], last}))
    ax.grid(visible=False, axis="y")
