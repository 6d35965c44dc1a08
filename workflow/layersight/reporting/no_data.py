"""A figure that a study has but that there is nothing to draw in, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from layersight.reporting.lineup import Lineup
from layersight.reporting.style import grid_of_axes, styled
from layersight.reporting.wording import two

_NOTHING_TUNED = "Every variant failed, so this figure has no data"
_NO_ROWS = "The tables hold no rows for this figure, so it has no data"


@styled
def no_data(lineup: Lineup) -> Figure:
    """Empty axes that say why they are empty."""
    figure, axes = grid_of_axes(1, 1, row_height=0.8)
    ax = axes[0][0]
    ax.set_xticks([])
    ax.set_yticks([])
    words = "no data: every variant failed" if lineup.all_failed else "no data"
    ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color="#555555")
    return figure


def say_no_data(lineup: Lineup) -> str:
    """Two sentences on an empty figure."""
    if lineup.all_failed:
        return two(_NOTHING_TUNED, "Why each of them failed stands at the head of the report")
    if lineup.released:
        return two(
            _NO_ROWS,
            f"Not trained here, but released: {', '.join(lineup.released)}; they have no training "
            "log, and what reads text alone is not patched",
        )
    return two(_NO_ROWS, "Nothing can be read from it")


def says_no_data(sentences: Sequence[str]) -> bool:
    """Whether the sentences on a figure are those of an empty one."""
    return bool(sentences) and sentences[0] in (f"{_NOTHING_TUNED}.", f"{_NO_ROWS}.")
