"""Two sentences on where tuning acts: the study's first finding, computed from its tables."""

from __future__ import annotations

from typing import Any

import pandas as pd

from layersight.reporting.figures_matrices import (
    concentration_panels,
    even,
    first_probe,
    matrix_rows,
    places,
    short_name,
)
from layersight.reporting.lineup import Lineup
from layersight.reporting.wording import largest, listed, number, smallest, two

MOST_NAMED = 8


def matrix_change(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Which matrix moved most, and of how high a rank the changes are."""
    table = matrix_rows(frame)
    size = f"n = {table['matrix'].nunique()} matrices in each of {table['block'].nunique()} blocks"
    most = largest(table, "change")
    if most is None:
        return two(f"No variant moved any matrix ({size})", "There is no change to take a rank of")
    ranks = table.groupby("variant")["rank"].median()
    ranks = ranks.reindex(lineup.present(table)).dropna()
    low, high = ranks.idxmin(), ranks.idxmax()
    still = [name for name in lineup.present(table) if name not in ranks.index]
    opening = (
        f"Of all matrices ({size}) {short_name(most.matrix)} of block {most.block} moved furthest, "
        f"by {number(most.change)} % of its norm, in {most.variant}"
    )
    if still:
        opening += f"; {', '.join(still)} moved none"
    told = f"The median effective rank of a changed matrix is {number(ranks[low])} in {low}"
    if low != high:
        told += f" and {number(ranks[high])} in {high}"
    return two(opening, told)


def concentration(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Where the change of every variant lies, in layers and in blocks, beside an even change."""
    panels = concentration_panels(frame)
    layered = [panel for panel in panels if panel[1]["unit"].iloc[0] == "layer"]
    weights = [panel for panel in panels if panel[1]["unit"].iloc[0] == "block"]
    sentences = []
    if layered:
        title, rows = layered[0]
        opening = f"By {title} on {first_probe(frame)},"
        sentences.append(_profile(opening, rows, "layer", lineup))
    if weights:
        sentences.append(_profile("In weights", weights[0][1], "block", lineup))
    if len(sentences) < 2:
        sentences.append(_extremes(panels[0][1], lineup))
    return two(*sentences[:2])


def _profile(opening: str, rows: pd.DataFrame, unit: str, lineup: Lineup) -> str:
    table = places(rows)
    positions = int(table["positions"].max())
    centre, width = even(positions, unit, lineup.share)
    by_name = {row["variant"]: row for row in table.to_dict("records")}
    names = lineup.present(table)
    parts = [_place(name, by_name[name], unit) for name in _told(table, names)]
    of = "" if len(parts) == len(names) else f" (the extremes of {len(names)} variants)"
    return (
        f"{opening} the centre of mass over n = {positions} {unit}s, and the smallest window with "
        f"{lineup.share_words} of the change, are{of}: {listed(parts)}; an even change would have "
        f"its centre at {number(centre)} and that share in any {width} {unit}s"
    )


def _told(table: pd.DataFrame, names: list[str]) -> list[str]:
    """Return who is named: all, or of many the earliest, the latest and the narrowest."""
    if len(names) <= MOST_NAMED:
        return names
    rows = (smallest(table, "centre"), largest(table, "centre"), smallest(table, "width"))
    chosen = {row.variant for row in rows if row is not None}
    return [name for name in names if name in chosen] or names[:1]


def _place(name: str, row: dict[str, Any], unit: str) -> str:
    if row["centre"] != row["centre"]:
        return f"{name} no change"
    seeds = (
        f" ({number(row['smallest'])} to {number(row['largest'])} over {int(row['seeds'])} seeds)"
        if row["seeds"] > 1
        else ""
    )
    first, last = _whole(row["start"]), _whole(row["stop"] - 1)
    where = f"{unit} {first}" if first == last else f"{unit}s {first} to {last}"
    return f"{name} {number(row['centre'])}{seeds}, {where}"


def _whole(value: float) -> str:
    return f"{value:.0f}" if value == round(value) else number(value)


def _extremes(rows: pd.DataFrame, lineup: Lineup) -> str:
    table = places(rows)
    table = table[table["variant"].isin(lineup.order)]
    early, late = smallest(table, "centre"), largest(table, "centre")
    if early is None or early.variant == late.variant:
        return "There are no two variants with a change to compare"
    return (
        f"Earliest is the change of {early.variant}, at {number(early.centre)}, and latest that "
        f"of {late.variant}, at {number(late.centre)}"
    )
