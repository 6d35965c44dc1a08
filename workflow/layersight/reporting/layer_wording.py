"""Phrases that sentences on curves over layers share."""

from __future__ import annotations

from typing import Any

import pandas as pd

from layersight.reporting.lineup import Lineup
from layersight.reporting.wording import largest, number, overlap, short, smallest, with_band


def reference_of(table: pd.DataFrame, lineup: Lineup) -> str:
    """Return whom the others are held against: `aligned`, or the first that there is."""
    return "aligned" if "aligned" in set(table["variant"]) else lineup.present(table)[0]


def highest(table: pd.DataFrame, words: str, lineup: Lineup, *, tuned: bool = False) -> str:
    """Say where a number is largest: "the ARI is highest in full at layer 3, 0.41 (...)".

    Args:
        table: of `over_seeds` by layer, with at least one defined number.
        words: the number's name.
        lineup: the subjects.
        tuned: look among the tuned ones, where they have any number.
    """
    own = table[table["variant"].isin(lineup.variants)] if tuned else table
    best = largest(own) if tuned else None
    best = largest(table) if best is None else best
    return (
        f"the {words} is highest in {best.variant} at layer {best.layer}, {with_band(best, lineup)}"
    )


def against_control(row: Any, control: pd.DataFrame, words: str) -> str:
    """Say how a number lies to its control at the same subject and layer; empty without one."""
    same = control[(control["variant"] == row.variant) & (control["layer"] == row.layer)]
    same = same.dropna(subset=["value"])
    if same.empty:
        return ""
    wrong = same.iloc[0]
    if overlap(row, wrong):
        return f", not clearly different from the {short(wrong)} {words}"
    return f", {'above' if row.value > wrong['value'] else 'below'} the {short(wrong)} {words}"


def farthest(table: pd.DataFrame, lineup: Lineup) -> str:
    """Say where a variant departs furthest from the reference, and whether clearly.

    Args:
        table: of `over_seeds` by layer.
        lineup: the subjects.
    """
    if not len(table):
        return "No subject has a number to compare"
    first = reference_of(table, lineup)
    reference = table[table["variant"] == first]
    pairs = table[table["variant"].isin(lineup.variants) & (table["variant"] != first)].merge(
        reference, on="layer", suffixes=("", "_reference")
    )
    pairs["gap"] = (pairs["value"] - pairs["value_reference"]).abs()
    far = largest(pairs, "gap")
    if far is None:
        return f"No tuned subject was measured beside {first}"
    if far.gap == 0:
        return f"No variant departs from {first} at any layer"
    before = reference[reference["layer"] == far.layer].iloc[0]
    side = "above" if far.value > before["value"] else "below"
    verdict = (
        f"the {lineup.bands} overlap, so it does not differ clearly"
        if overlap(far, before)
        else f"the {lineup.bands} do not overlap"
    )
    return (
        f"The largest departure from {first} is that of {far.variant}, {number(far.gap)} {side} at "
        f"layer {far.layer}: {short(far)} against {short(before)}, and {verdict}"
    )


def course(table: pd.DataFrame, name: str, words: str, lineup: Lineup) -> str:
    """Say where a subject's number is largest and smallest over the layers."""
    own = table[table["variant"] == name]
    top, low = largest(own), smallest(own)
    if top is None:
        return f"the {words} of {name} is defined at no layer"
    return (
        f"the {words} of {name} is largest at layer {top.layer}, {with_band(top, lineup)}, and "
        f"smallest at layer {low.layer}, {short(low)}"
    )
