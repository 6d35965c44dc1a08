"""Two sentences on figures of alignment and linear probes, computed from their tables."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from layersight.reporting.figures_alignment import columns_of
from layersight.reporting.figures_cross_modal import pairing_title
from layersight.reporting.figures_grid import Row
from layersight.reporting.figures_layers import rows_of
from layersight.reporting.figures_probes import CASES, probe_pairing
from layersight.reporting.layer_wording import against_control, farthest, highest
from layersight.reporting.lineup import Lineup, over_seeds
from layersight.reporting.wording import (
    ends,
    largest,
    listed,
    number,
    overlap,
    sample_of,
    smallest,
    two,
    with_band,
)

UNDEFINED = "There are too few distinct vectors, or one side does not vary"
# A ratio of imbalances above this is called lopsided.
LOPSIDED = 1.25


def _first_column(frame: pd.DataFrame, *, tuned: bool) -> tuple[str, pd.DataFrame]:
    title, rows = columns_of(frame, tuned=tuned)[0]
    return title.replace("\n", ", ").replace(" | ", " and "), rows


def _where(title: str, rows: pd.DataFrame) -> str:
    return f"For {title} ({sample_of(rows)})"


def peak(
    frame: pd.DataFrame, lineup: Lineup, *, rows: Sequence[Row], words: str, control: str = "",
    tuned: bool = True, low: bool = False,
) -> str:  # fmt: skip
    """Where the first measure is most extreme, against its control, and what tuning does to it.

    Args:
        frame: the table `alignment`.
        lineup: the subjects.
        rows: the figure's rows.
        words: name of the first of them.
        control: what its control is.
        tuned: whether tuned and base stand beside image and text.
        low: speak of the smallest number instead of the largest.
    """
    title, own = _first_column(frame, tuned=tuned)
    own = own[own["metric"].isin([rows[0].metric, rows[0].control])]
    both = over_seeds(own, ["metric", "layer"])
    table = rows_of(both, metric=rows[0].metric).dropna(subset=["value"])
    if table.empty:
        return two(f"For {title} (n = 0) the {words} is not defined at any layer", UNDEFINED)
    best = smallest(table) if low else largest(table)
    beside = against_control(best, rows_of(both, metric=rows[0].control), control)
    return two(
        f"{_where(title, own)} the {words} is {'lowest' if low else 'highest'} in {best.variant} "
        f"at layer {best.layer}, {with_band(best, lineup)}{beside}",
        farthest(table, lineup),
    )


def svcca(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Where SVCCA is highest, and at how many layers the joint dimension is below chance."""
    title, own = _first_column(frame, tuned=True)
    both = over_seeds(own, ["metric", "layer"])
    table = rows_of(both, metric="svcca").dropna(subset=["value"])
    if table.empty:
        return two(f"For {title} (n = 0) SVCCA is not defined at any layer", UNDEFINED)
    best = largest(table)
    wrong = rows_of(both, metric="svcca_random_pairs")
    opening = (
        f"{_where(title, rows_of(own, metric='svcca'))} {highest(table, 'SVCCA', lineup)}"
        f"{against_control(best, wrong, 'of wrong pairs')}"
    ).replace(" the SVCCA", " SVCCA")
    top = largest(rows_of(both, metric="dimension_correlation"))
    p = rows_of(own, metric="dimension_correlation_p").dropna(subset=["value"])
    if top is None or p.empty:
        return two(opening, "The correlation of intrinsic dimension is not defined")
    low = int((p["value"] < 0.05).sum())
    return two(
        opening,
        f"Id-Cor is highest in {top.variant} at layer {top.layer}, {number(top.value)} "
        f"({ends(top)}); in {low} of {len(p)} subjects and layers its permutation p is below 0.05, "
        "where chance alone gives one in twenty",
    )


def imbalance(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Which side tells more of the other's neighbours, at the layer where they differ most."""
    title, own = _first_column(frame, tuned=True)
    first, second = title.split(",")[0].split(" and ", 1)
    both = over_seeds(own, ["metric", "layer"])
    one = rows_of(both, metric="imbalance_x_to_y").dropna(subset=["value"])
    other = rows_of(both, metric="imbalance_y_to_x").dropna(subset=["value"])
    pairs = one.merge(other, on=["variant", "layer"], suffixes=("", "_back"))
    if pairs.empty:
        return two(
            f"For {title} (n = 0) the information imbalance is not defined at any layer", UNDEFINED
        )
    least = smallest(pairs)
    opening = (
        f"{_where(title, rows_of(own, metric='imbalance_x_to_y'))} {first} tell most of the "
        f"neighbours of {second} in {least.variant} at layer {least.layer}, where the imbalance is "
        f"{with_band(least, lineup)} and back {number(least.value_back)} "
        f"({number(least.low_back)} to {number(least.high_back)}); 0 means that the nearest "
        "neighbour is the same and 1 that it is random"
    )
    pairs["apart"] = (pairs["value"] - pairs["value_back"]).abs()
    far = largest(pairs, "apart")
    clear = far.high < far.low_back or far.high_back < far.low
    knows, told = (first, second) if far.value < far.value_back else (second, first)
    verdict = (
        f"{knows} tell more of {told} than the other way round"
        if clear
        else f"the {lineup.bands} overlap, so neither side clearly tells more of the other"
    )
    return two(
        opening,
        f"The directions differ most in {far.variant} at layer {far.layer}, {number(far.value)} "
        f"against {number(far.value_back)} back, and {verdict}",
    )


def linear_probes(frame: pd.DataFrame, lineup: Lineup) -> str:
    """How well a label is read off within a modality and across, against the majority class."""
    pairing, rows = probe_pairing(frame)
    title = pairing_title(*pairing).replace("\n", ", ").replace(" | ", " and ")
    both = over_seeds(rows, ["train", "test", "metric", "layer"]).dropna(subset=["value"])
    best = {
        case: largest(rows_of(both, metric="accuracy", train=case[0], test=case[1]))
        for case in CASES
    }
    where = f"On {title} ({rows['classes'].max()} classes, {sample_of(rows)})"
    if any(row is None for row in best.values()):
        return two(
            f"{where} no probe is defined at any layer", "There are too few items of each class"
        )
    within = max((best["image", "image"], best["text", "text"]), key=lambda row: row.value)
    across = max((best["image", "text"], best["text", "image"]), key=lambda row: row.value)
    guess = rows_of(both, metric="majority")["value"].mean()
    parts = [
        f"{words} {number(row.value)} ({ends(row)}) in {row.variant} at layer {row.layer}"
        for words, row in ((CASES[within.train, within.test], within),
                           (CASES[across.train, across.test], across))
    ]  # fmt: skip
    chosen = rows_of(both, metric="selectivity", train=across.train, test=across.test)
    chosen = rows_of(chosen, variant=across.variant, layer=across.layer)
    own = "" if chosen.empty else f", with a selectivity of {number(chosen.iloc[0]['value'])}"
    opening = (
        f"{where} the best probes within a modality and across reach {listed(parts)}{own}; always "
        f"the commonest class gives {number(guess)}"
    )
    accuracy = rows_of(both, metric="accuracy", train=across.train, test=across.test)
    before = largest(rows_of(accuracy, variant="aligned"))
    if before is None or across.variant == "aligned":
        return two(opening, farthest(accuracy, lineup))
    verdict = (
        f"the {lineup.bands} overlap, so tuning does not clearly raise it"
        if overlap(across, before)
        else "tuning raises it"
    )
    return two(
        opening,
        f"The best of aligned across modalities, {CASES[across.train, across.test]}, is "
        f"{number(before.value)} ({ends(before)}) at layer {before.layer}: {verdict}",
    )
