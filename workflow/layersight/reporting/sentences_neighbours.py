"""Two sentences on figures of scales and shared neighbours, computed from their tables."""

from __future__ import annotations

import pandas as pd

from layersight.reporting.figures_dimension import decimated, decimation_layers
from layersight.reporting.figures_layers import leading, main_streams, nearest_k, rows_of
from layersight.reporting.figures_neighbours import (
    LABEL_WORDS,
    compared,
    labelled,
    labels_of,
    main_overlaps,
    tall,
)
from layersight.reporting.layer_wording import against_control, course, farthest, reference_of
from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds
from layersight.reporting.wording import (
    largest,
    listed,
    number,
    sample_of,
    smallest,
    two,
    with_band,
)

# Between these, half and whole cloud are said to have one dimension.
SAME_DIMENSION = 1.1


def dimension_decimation(frame: pd.DataFrame, lineup: Lineup) -> str:
    """How the dimension changes from the smallest subsets to all vectors, at a few layers."""
    probe, stream, rows = decimated(frame)
    layers = decimation_layers(rows["layer"])
    table = over_seeds(rows, ["layer", "parts"], "dimension").dropna(subset=["value"])
    table = table[table["layer"].isin(layers)]
    where = f"On {PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, {sample_of(rows, 'dimension')})"
    if table.empty:
        return two(
            f"{where} no dimension is defined at any of the layers",
            "There are too few distinct vectors to estimate one",
        )
    first = reference_of(table, lineup)
    parts = []
    for layer, own in table[table["variant"] == first].groupby("layer"):
        whole, least = largest(own.assign(few=-own["parts"]), "few"), largest(own, "parts")
        points = f"{least.n // least.parts} to {whole.n // whole.parts}"
        parts.append(
            f"{number(least.value)} to {number(whole.value)} at layer {layer} "
            f"({points} vectors in a subset)"
        )
    ends = table.sort_values("parts").groupby(["variant", "layer"])["value"].agg(["first", "last"])
    ends["factor"] = ends["first"] / ends["last"]
    steady = ((ends["factor"] < SAME_DIMENSION) & (ends["factor"] > 1 / SAME_DIMENSION)).sum()
    return two(
        f"{where} the TwoNN dimension of {first} goes from {listed(parts)}",
        f"Over all subjects and these layers, {steady} of {len(ends)} curves end within a tenth of "
        "where they begin: only there does the number of vectors not decide the dimension",
    )


def overlap_scales(frame: pd.DataFrame, lineup: Lineup, *, comparison: str) -> str:
    """How an overlap depends on the number of neighbours, and its extreme."""
    what, rows = main_overlaps(frame, comparison)
    table = over_seeds(rows, ["layer", "k"]).dropna(subset=["value"])
    where = f"On {what} ({sample_of(rows)})"
    if table.empty:
        return two(
            f"{where} no overlap is defined at any layer and k",
            "There are too few distinct vectors to compare neighbours",
        )
    means = table.groupby("k")["value"].mean()
    wrong = rows.groupby("k")["random_pairs"].mean()
    low, high = int(means.index[0]), int(means.index[-1])
    opening = (
        f"{where} the overlap, averaged over layers and subjects, is {number(means[low])} at "
        f"k = {low} and {number(means[high])} at k = {high}; wrong pairs share "
        f"{number(wrong[low])} and {number(wrong[high])}"
    )
    if comparison == "tuned_base":
        found, verb = smallest(table), "Tuning changes most neighbours"
    else:
        found, verb = largest(table), "The two sides share most neighbours"
    return two(
        opening,
        f"{verb} in {found.variant} at layer {found.layer} and k = {found.k}: "
        f"{with_band(found, lineup)}",
    )


def overlap_layers(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Between which layers neighbours change most, and where tuning alters that."""
    rows = compared(frame, "consecutive")
    rows = rows_of(rows, k=nearest_k(rows["k"]))
    probe, stream = leading(main_streams(rows))
    rows = rows_of(rows, probe=probe, stream=stream)
    both = over_seeds(tall(rows), ["metric", "layer"])
    table = rows_of(both, metric="overlap").dropna(subset=["value"])
    where = (
        f"On {PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, k = {rows['k'].max()}, "
        f"{sample_of(rows)})"
    )
    if table.empty:
        return two(
            f"{where} no overlap of consecutive layers is defined",
            "There are too few distinct vectors to compare neighbours",
        )
    first = reference_of(table, lineup)
    least = smallest(table[table["variant"] == first])
    control = against_control(least, rows_of(both, metric="overlap_random_pairs"), "of wrong pairs")
    return two(
        f"{where} neighbours of {first} change most from layer {least.layer} to the next, which "
        f"share {with_band(least, lineup)}{control}",
        farthest(table, lineup),
    )


def label_overlap(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Where neighbours share the first label, against chance, and what tuning does to that."""
    rows = labelled(frame)
    probe, stream = leading(main_streams(rows))
    rows = rows_of(rows, probe=probe, stream=stream)
    label = labels_of(rows[~rows["metric"].str.endswith("_chance")])[0]
    own = rows_of(rows, metric=label)
    table = over_seeds(own, ["layer"]).dropna(subset=["value"])
    words = f"share of neighbours with the {LABEL_WORDS.get(label, label)}"
    size = f"k = {own['k'].max()}, {sample_of(own)}"
    where = f"On {PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, {size})"
    if table.empty:
        return two(
            f"{where} the {words} is not defined at any layer",
            "There are too few distinct vectors to compare neighbours",
        )
    chance = rows_of(rows, metric=f"{label}_chance")["value"].mean()
    told = course(table, reference_of(table, lineup), words, lineup)
    return two(f"{where} {told}, where chance gives {number(chance)}", farthest(table, lineup))


def with_plateau(rows: pd.DataFrame, first: str) -> str:
    """Say at which rank the plateau of a subject lies most often, and how flat it is.

    Args:
        rows: rows of GRIDE with `subject`, `n2`, `plateau` and `spread`.
        first: the variant.
    """
    own = rows[rows["plateau"] & (rows["subject"].str.partition("/seed-")[0] == first)]
    if own.empty:
        return ""
    rank = int(own["n2"].value_counts().sort_index().idxmax())
    share = number(100 * own["spread"].median())
    return (
        f"; it is flattest around n2 = {rank} at most layers, over three scales of which it varies "
        f"by {share} % (median)"
    )
