"""Tables of the report: frames as rows of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from layersight.reporting.lineup import Lineup, over_seeds
from layersight.reporting.wording import fixed

LONG = 30
# Columns that say more of a number and do not tell rows apart.
BESIDE = {
    "low", "high", "scale", "n", "used", "copies", "zeros", "coincident", "interval", "spread",
    "plateau", "reference_layer", "random_pairs", "random_low", "random_high", "chance", "classes",
    "strength", "tokens", "p",
}  # fmt: skip
MOST_ROWS = 1000


@dataclass(frozen=True)
class Page:
    """One table as text.

    Attributes:
        name: for its heading.
        caption: what a row is.
        head: column names.
        rows: cells as text, one list per row.
        source: path of the Parquet file, empty if the table is made for the report only.
        total: rows of the Parquet file.
    """

    name: str
    caption: str
    head: list[str]
    rows: list[list[str]]
    source: str = ""
    total: int = 0

    @property
    def folded(self) -> bool:
        """Whether it is too long to stand open."""
        return len(self.rows) > LONG


def cell(value: Any) -> str:
    """Write one value: whole numbers whole, others with three significant digits, NaN as a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        if value == int(value) and abs(value) < 1e9:
            return str(int(value))
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def page(name: str, caption: str, frame: pd.DataFrame, source: str = "") -> Page:
    """Return a frame as a page; one with layers is turned on its side, one column per layer."""
    total = len(frame)
    value = "dimension" if "estimator" in frame.columns else "value"
    layered = {"layer", value} <= set(frame.columns) and total > 0
    if layered:
        keys = [column for column in frame.columns if column not in {"layer", value, *BESIDE}]
        # What a row lacks, such as a class fraction, tells it apart from others too.
        frame = frame.assign(
            **{key: frame[key].astype(object).where(frame[key].notna(), "–") for key in keys}
        )
        wide = frame.pivot(index=keys, columns="layer", values=value)
        # pivot sorts; the table's own order of keys is the study's.
        order = frame[keys].drop_duplicates()
        frame = wide.loc[list(order.itertuples(index=False, name=None))].reset_index()
        caption += " Columns 0, 1, … are layers; intervals and sample sizes are in the file."
    if len(frame) > MOST_ROWS:
        caption += f" The first {MOST_ROWS} of {len(frame)} rows; the rest is in the file."
        frame = frame.head(MOST_ROWS)
    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return Page(name, caption, [str(column) for column in frame.columns], rows, source, total)


def interval_page(
    name: str,
    caption: str,
    frame: pd.DataFrame,
    *,
    lineup: Lineup,
    by: Sequence[str],
    extra: Sequence[str] = (),
) -> Page:
    """Return scores or differences with one column per subject and the interval in each cell.

    Args:
        name: heading.
        caption: what a row is.
        frame: with `subject`, the columns `by`, `n`, `value`, `low`, `high`.
        lineup: order of the subjects.
        by: what a row is about.
        extra: columns that do not depend on the subject, such as the baselines.
    """
    table = over_seeds(frame, by)
    names = lineup.present(table)
    constant = {
        key: [cell(float(value)) for value in group[list(extra)].iloc[0]]
        for key, group in frame.groupby(list(by), sort=False)
    }
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        found: dict[str, Any] = {str(row.variant): row for row in group.itertuples(index=False)}
        numbers = [
            f"{fixed(found[n].value)} [{fixed(found[n].low)}, {fixed(found[n].high)}]"
            if n in found
            else "–"
            for n in names
        ]
        rows.append([*map(str, key), cell(int(group["n"].min())), *constant[key], *numbers])
    return Page(name, caption, [*by, "n", *extra, *names], rows)
