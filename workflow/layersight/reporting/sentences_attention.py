"""Two sentences on every figure of attention, computed from its tables."""

from __future__ import annotations

from typing import Any

import pandas as pd

from layersight.reporting.figures_attention import MAIN, form, main_score, parameters_of
from layersight.reporting.lineup import SPLIT_WORDS, Lineup, over_seeds
from layersight.reporting.wording import (
    compared,
    includes,
    largest,
    number,
    overlap,
    short,
    smallest,
    two,
    with_band,
)

WHERE = "first token left out, n = "


def attention(frame: pd.DataFrame, lineup: Lineup) -> str:
    """In which blocks a subject leans to the text, and where tuning moves that most."""
    table = over_seeds(form(frame, *MAIN), ["block"])
    first = "aligned" if "aligned" in set(table["variant"]) else lineup.present(table)[0]
    reference = table[table["variant"] == first]
    least = smallest(reference)
    if least is None:
        return two(
            f"For answers to visual questions ({WHERE}{reference['n'].max()}) the ratio of {first} "
            "is not defined in any block",
            "There are no items with attention to both image and text",
        )
    most = largest(reference)
    defined = reference.dropna(subset=["value"])
    below, above = (defined["high"] < 1).sum(), (defined["low"] > 1).sum()
    opening = (
        f"While {first} answers visual questions ({WHERE}{least.n}), LMAR lies clearly below 1 in "
        f"{below} of {len(reference)} blocks, where a text token gets more attention than an image "
        f"token, and clearly above 1 in {above}; it is smallest in block {least.block}, "
        f"{with_band(least, lineup)}, and largest in block {most.block}, {short(most)}"
    )
    pairs = table[table["variant"].isin(lineup.variants) & (table["variant"] != first)].merge(
        reference, on="block", suffixes=("", "_reference")
    )
    # Twice as much and half as much are equally far.
    pairs["factor"] = pairs["value"] / pairs["value_reference"]
    pairs["apart"] = pairs["factor"].where(pairs["factor"] >= 1, 1 / pairs["factor"])
    far = largest(pairs, "apart")
    if far is None:
        return two(opening, f"No tuned subject was measured beside {first}")
    before = reference[reference["block"] == far.block].iloc[0]
    verdict = (
        f"the {lineup.bands} overlap, so it does not differ clearly"
        if overlap(far, before)
        else f"the {lineup.bands} do not overlap"
    )
    return two(
        opening,
        f"It departs furthest from {first} in {far.variant} at block {far.block}, by a factor of "
        f"{number(far.factor)}: {short(far)} against {short(before)}, and {verdict}",
    )


def attention_parameters(frame: pd.DataFrame, scores: pd.DataFrame, lineup: Lineup) -> str:
    """Who is nearest to balance, and what fewest and most trained parameters go with."""
    found = parameters_of(frame, lineup)
    size = f"mean over blocks, {WHERE}{int(found['n'].max())}"
    tuned = found[found["variant"].isin(lineup.variants)].copy()
    tuned["distance"] = (tuned["value"] - 1).abs()
    nearest = smallest(tuned, "distance")
    if nearest is None:
        return two(f"LMAR ({size}) is defined for no tuned subject", "There is nothing to compare")
    balanced = ", which includes balance" if includes(nearest, 1.0) else ""
    opening = (
        f"LMAR ({size}) is nearest to 1 in {nearest.variant}, "
        f"{with_band(nearest, lineup)}{balanced}"
    )
    before = found[found["variant"] == "aligned"]
    if len(before):
        row = before.iloc[0]
        opening += f"; against the {short(row)} of aligned it {compared(nearest, row, lineup)}"
    counted = tuned.dropna(subset=["trained", "value"])
    score = main_score(scores)
    named = f"{score.benchmark}, {SPLIT_WORDS.get(score.split, score.split)}"
    fewest, most = smallest(counted, "trained"), largest(counted, "trained")
    if fewest is None:
        return two(opening, "How many parameters were trained is not known")
    if fewest.trained == most.trained:
        return two(
            opening,
            f"All variants train {_count(fewest)} parameters of the language model: {_of(fewest)} "
            f"and {_scores(fewest, score.table)} on {named}",
        )
    return two(
        opening,
        f"With the fewest trained parameters of the language model, {_count(fewest)}, {_of(fewest)}"
        f" and {_scores(fewest, score.table)} on {named}; with the most, {_count(most)}, "
        f"{_of(most)} and {_scores(most, score.table)}, and the LMAR of the latter "
        f"{compared(most, fewest, lineup)}",
    )


def _count(row: Any) -> str:
    return f"{int(row.trained):,}"


def _of(row: Any) -> str:
    return f"{row.variant} has {short(row)}"


def _scores(row: Any, table: pd.DataFrame) -> str:
    own = table[table["variant"] == row.variant]
    return f"scores {short(own.iloc[0])}" if len(own) else "was not scored"
