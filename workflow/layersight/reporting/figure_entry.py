"""What the report needs to know of one figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class FigureEntry:
    """One figure.

    Attributes:
        name: of its files and of its caption `workflow/report/<name>.rst`.
        title: headline in the report.
        tables: names of the tables it is drawn from, in the order `draw` and `say` take them.
        draw: frames and lineup to a figure.
        say: frames and lineup to two sentences.
        applies: whether the (first) table has anything for it; where no subject was tuned it has
            not.
    """

    name: str
    title: str
    tables: tuple[str, ...]
    draw: Callable[..., Figure]
    say: Callable[..., str]
    applies: Callable[[pd.DataFrame], bool] = lambda frame: len(frame) > 0
