"""How every figure looks: sizes, colours, axes, and files that are the same bytes every time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from layersight.storage.atomic import atomic_file

COLUMN_WIDTH = 3.4
FULL_WIDTH = 7.0
PNG_DPI = 200

# Okabe and Ito (2008), told apart with all common forms of colour blindness; the faintest last.
OKABE_ITO = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#F0E442",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1.5, 1)))
GUIDE = "#777777"

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "figure.dpi": 100,
    "pdf.fonttype": 42,
    "svg.hashsalt": "layersight",
}

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Look:
    """Colour, marker and line of one subject, the same in every figure."""

    color: str
    marker: str
    linestyle: Any


def looks(variants: Sequence[str]) -> dict[str, Look]:
    """Return the look of `base`, `aligned` and every variant, in this order.

    The first eight variants have eight colours; further ones repeat a colour with another line and
    another marker, so that no two looks are the same.
    """
    found = {"base": Look("#a0a0a0", "x", ":"), "aligned": Look("#5a5a5a", "d", "-")}
    for index, variant in enumerate(variants):
        turn, colour = divmod(index, len(OKABE_ITO))
        found[variant] = Look(
            OKABE_ITO[colour],
            MARKERS[index % len(MARKERS)],
            LINES[(index + turn) % len(LINES)],
        )
    return found


def styled(draw: Callable[Arguments, Figure]) -> Callable[Arguments, Figure]:
    """Decorate a function that draws: it draws in this style and leaves no setting behind."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Figure:
        with rc_context(RC):
            return draw(*args, **kwargs)

    return drawn


def grid_of_axes(
    rows: int, columns: int, *, width: float = FULL_WIDTH, row_height: float = 1.7, **kwargs: Any
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with `rows` × `columns` axes; sizes in inches."""
    figure = Figure(figsize=(width, 0.5 + rows * row_height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **kwargs)
    return figure, [list(row) for row in axes]


def layer_ticks(last: int) -> list[int]:
    """Whole-numbered ticks from 0 to the last layer, which has one of its own."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if last / s <= 8)
    ticks = [tick for tick in range(0, last + 1, step) if last - tick >= step / 2 or tick == last]
    return ticks if ticks and ticks[-1] == last else [*ticks, last]


def layer_axis(ax: Axes, last: int, label: str | None = "layer") -> None:
    """Make the x-axis that of layers 0..last."""
    ax.xaxis.set_major_locator(FixedLocator(layer_ticks(last)))
    margin = max(0.02 * last, 0.1)
    ax.set_xlim(-margin, last + margin)
    if label:
        ax.set_xlabel(label)


def legend_above(figure: Figure, handles: Sequence[Any], title: str | None = None) -> None:
    """Put one legend above all axes, where it hides nothing, in as few rows as fit the width.

    A title of the whole figure belongs here: `suptitle` would lie on the legend.
    """
    widths = [0.42 + 0.058 * len(str(handle.get_label())) for handle in handles]
    columns = len(handles)
    while columns > 1 and _legend_width(widths, columns) > figure.get_figwidth() - 0.2:
        columns -= 1
    figure.legend(
        handles=list(handles),
        loc="outside upper center",
        ncols=max(1, columns),
        title=title,
        title_fontsize=8,
    )


def _legend_width(widths: Sequence[float], columns: int) -> float:
    # The legend fills column by column, the first ones with one entry more.
    short, longer = divmod(len(widths), columns)
    total, start = 0.0, 0
    for column in range(columns):
        stop = start + short + (column < longer)
        total += max(widths[start:stop])
        start = stop
    return total


def handle(look: Look, label: str, *, line: bool = True) -> Line2D:
    """Return a legend entry for a look."""
    return Line2D(
        [], [],
        color=look.color,
        marker=look.marker,
        linestyle=look.linestyle if line else "none",
        label=label,
    )  # fmt: skip


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `<name>.png` and `<name>.pdf` into a folder, each whole or not at all.

    Neither holds a date or a version: the same figure gives the same bytes.
    """
    written = []
    for kind, metadata in (
        ("png", {"Software": None}),
        ("pdf", {"CreationDate": None, "Creator": None, "Producer": None}),
    ):
        path = Path(folder) / f"{name}.{kind}"
        with rc_context(RC), atomic_file(path) as beside:
            figure.savefig(beside, format=kind, dpi=PNG_DPI, metadata=metadata)
        # Places are worked out once, not again for the next format.
        figure.set_layout_engine(None)
        written.append(path)
    return written
