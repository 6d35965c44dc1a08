"""Heat maps as small multiples, one a subject: what all figures with maps share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from layersight.reporting.style import grid_of_axes, layer_ticks

MOST_PANELS = 12
COLUMNS = 4


def some_panels(names: Sequence[str], most: int = MOST_PANELS) -> list[str]:
    """Return the first of the names, as many as there are panels for."""
    return list(names[:most])


def left_note(names: Sequence[str], shown: Sequence[str], table: str) -> str:
    """Say which subjects have no panel and where they are; empty if all have one."""
    if len(shown) == len(names):
        return ""
    return f"{len(shown)} of {len(names)} subjects; all are in the table {table}"


def narrow_ticks(last: int) -> list[int]:
    """Ticks of a narrow layer axis: first, middle and last."""
    ticks = layer_ticks(last)
    return sorted({0, ticks[len(ticks) // 2], last})


def heat_map(
    ax: Axes, table: pd.DataFrame, *, x: str, y: str, rows: Sequence[Any], norm: Normalize,
    value: str = "value", cmap: str = "cividis",
) -> Any:  # fmt: skip
    """Draw one map; what is undefined or missing stays white.

    Args:
        ax: where to draw.
        table: one row per `x` (whole numbers) and `y`.
        x: column of the abscissa.
        y: column of the ordinate.
        rows: values of `y` from the bottom upwards.
        norm: of the colours.
        value: column of the numbers.
        cmap: name of the colour map.
    """
    columns = range(int(table[x].min()), int(table[x].max()) + 1)
    grid = table.pivot(index=y, columns=x, values=value).reindex(index=rows, columns=columns)
    mesh = ax.imshow(
        grid.to_numpy(dtype=float),
        aspect="auto",
        origin="lower",
        cmap=cmap,
        norm=norm,
        extent=(columns[0] - 0.5, columns[-1] + 0.5, -0.5, len(rows) - 0.5),
        interpolation="nearest",
    )
    ax.grid(False)
    ax.set_facecolor("#ffffff")
    return mesh


def limits(values: pd.Series) -> Normalize:
    """Colours from the smallest to the largest defined number."""
    low, high = float(np.nanmin([*values, np.inf])), float(np.nanmax([*values, -np.inf]))
    if low > high:
        return Normalize(0.0, 1.0)
    return Normalize(low, high if high > low else low + 1e-9)


def subject_maps(
    panels: Sequence[tuple[str, pd.DataFrame]], *, y: str, rows: Sequence[Any], last: int,
    ylabel: str, label: str, norm: Normalize,
    mark: Callable[[Axes, str], None] | None = None,
) -> tuple[Figure, list[Axes]]:  # fmt: skip
    """Draw one map over layers per subject, with one colour bar.

    Args:
        panels: title and table with `layer`, `y` and `value`.
        y: column of the ordinate.
        rows: its values from the bottom upwards.
        last: the last layer.
        ylabel: of the ordinate.
        label: of the colour bar.
        norm: of the colours.
        mark: draws more into the panel of a title.

    Returns:
        The figure and the axes in use.
    """
    columns = min(COLUMNS, len(panels))
    figure, axes = grid_of_axes(
        math.ceil(len(panels) / columns), columns, row_height=1.6, sharex=True, sharey=True
    )
    flat = [ax for row in axes for ax in row]
    mesh = None
    for index, ax in enumerate(flat):
        ax.set_visible(index < len(panels))
        if index >= len(panels):
            continue
        title, table = panels[index]
        mesh = heat_map(ax, table, x="layer", y=y, rows=rows, norm=norm)
        if mark is not None:
            mark(ax, title)
        ax.set_title(title, fontsize=8 if len(title) < 22 else 7)
        # Every panel is narrow: half as many ticks as a wide axis has.
        ax.set_xticks(narrow_ticks(last))
        ax.set_xlim(-0.5, last + 0.5)
        ax.set_yticks(range(len(rows)), [str(row) for row in rows])
        ax.tick_params(labelbottom=index + columns >= len(panels))
    for row in axes:
        row[0].set_ylabel(ylabel)
    figure.supxlabel("layer", fontsize=8)
    if mesh is not None:
        figure.colorbar(mesh, ax=flat, label=label, shrink=0.9, pad=0.01)
    return figure, flat[: len(panels)]
