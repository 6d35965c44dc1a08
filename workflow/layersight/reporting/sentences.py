"""Two sentences on every figure with a layer axis, computed from its table."""

from __future__ import annotations

import pandas as pd

from layersight.reporting.figures_change import against, as_change, change_panels
from layersight.reporting.figures_cross_modal import PAIR_WORDS, STREAM_SHORT, pairings
from layersight.reporting.figures_dimension import reference_scale, scale_panel
from layersight.reporting.figures_layers import TEXT_PROBES, leading, probe_streams
from layersight.reporting.layer_wording import farthest, reference_of
from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds
from layersight.reporting.sentences_neighbours import with_plateau
from layersight.reporting.wording import (
    compared,
    ends,
    largest,
    listed,
    number,
    overlap,
    short,
    smallest,
    two,
    with_band,
)

# A dimension that varies with the scale by more than this depends on the scale.
SCALE_MATTERS = 1.25


def intrinsic_dimension(frame: pd.DataFrame, lineup: Lineup, *, last: bool = True) -> str:
    """Where the dimension peaks before tuning, and where a variant departs furthest from that."""
    probe, stream = leading(probe_streams(frame, last=last))
    scale = reference_scale(frame)
    rows = frame[
        (frame["probe"] == probe)
        & (frame["stream"] == stream)
        & (frame["estimator"] == "gride")
        & (frame["n2"] == scale)
    ]
    where = f"{PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, GRIDE with n2 = {scale}"
    table = over_seeds(rows, ["layer"], "dimension").dropna(subset=["value"])
    if table.empty:
        return two(
            f"On {where}, n = {rows['n'].max()}) no dimension is defined at any layer",
            "There are too few distinct vectors to estimate one",
        )
    first = reference_of(table, lineup)
    reference = table[table["variant"] == first]
    peak, final = largest(reference), largest(reference, "layer")
    opening = (
        f"On {where}, n = {peak.n}) the dimension of {first} is largest at layer {peak.layer}, "
        f"{with_band(peak, lineup)}, and {number(final.value)} at layer {final.layer}"
    )
    return two(opening, farthest(table, lineup))


def intrinsic_dimension_scales(frame: pd.DataFrame, lineup: Lineup) -> str:
    """How the dimension depends on the neighbour rank."""
    probe, stream = scale_panel(frame)
    rows = frame[
        (frame["probe"] == probe) & (frame["stream"] == stream) & (frame["estimator"] == "gride")
    ]
    table = over_seeds(rows, ["layer", "n2"], "dimension").dropna(subset=["value"])
    where = f"{PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, n = {rows['n'].max()})"
    if table.empty:
        return two(
            f"On {where} no dimension is defined at any scale",
            "There are too few distinct vectors to estimate one",
        )
    first = reference_of(table, lineup)
    means = table[table["variant"] == first].groupby("n2")["value"].mean()
    spread = table.groupby(["variant", "layer"])["value"].agg(["min", "max"]).reset_index()
    spread["factor"] = spread["max"] / spread["min"]
    widest = largest(spread, "factor")
    verdict = (
        "so a dimension has to be read together with its scale"
        if widest.factor >= SCALE_MATTERS
        else "so the scale matters little here"
    )
    return two(
        f"On {where} the dimension of {first}, averaged over layers, is {number(means.iloc[0])} at "
        f"n2 = {means.index[0]} and {number(means.iloc[-1])} at n2 = {means.index[-1]}"
        f"{with_plateau(rows, first)}",
        f"Between scales it varies most at layer {widest.layer} of {widest.variant}, by a factor "
        f"of {number(widest.factor)}, {verdict}",
    )


def overlap_tuned(frame: pd.DataFrame, lineup: Lineup, *, last: bool = True) -> str:
    """Where tuning moves most neighbours, and whether it does so without pictures too."""
    kept = against(frame)
    kept = kept[kept["metric"] == "overlap"]
    panels = probe_streams(kept, last=last)
    probe, stream = leading(panels)
    rows = kept[(kept["probe"] == probe) & (kept["stream"] == stream)]
    table = over_seeds(rows, ["layer"])
    where = f"{PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, k = {rows['k'].max()}"
    least = smallest(table)
    if least is None:
        return two(
            f"On {where}, n = {rows['n'].max()}) no overlap is defined at any layer",
            "There are too few distinct vectors to compare neighbours",
        )
    if least.value > 0.9995:
        opening = f"On {where}, n = {least.n}) no variant changes the neighbours at any layer"
    else:
        opening = (
            f"On {where}, n = {least.n}) neighbours change most in {least.variant} at layer "
            f"{least.layer}, which keeps {with_band(least, lineup)} of the neighbours in aligned"
        )
    for other_probe, other_stream in panels:
        if probe in TEXT_PROBES or other_probe not in TEXT_PROBES:
            continue
        other_rows = kept[(kept["probe"] == other_probe) & (kept["stream"] == other_stream)]
        other_table = over_seeds(other_rows, ["layer"])
        same = other_table[
            (other_table["variant"] == least.variant) & (other_table["layer"] == least.layer)
        ].dropna(subset=["value"])
        if len(same):
            other = same.iloc[0]
            return two(
                opening,
                f"Without a picture, on {PROBE_WORDS[other_probe]} (n = {other['n']}), the share "
                f"kept at that layer is {short(other)}, which {compared(other, least, lineup)}",
            )
    other_kind = "with" if probe in TEXT_PROBES else "without"
    return two(opening, f"No probe set {other_kind} pictures was compared at that layer")


def change(frame: pd.DataFrame, weights: pd.DataFrame, lineup: Lineup) -> str:
    """Where representations change most, and in which blocks weights moved."""
    table = against(frame)
    probe, stream = change_panels(table)[0]
    rows = as_change(table, "cka")
    rows = rows[(rows["probe"] == probe) & (rows["stream"] == stream)]
    most = largest(over_seeds(rows, ["layer"]))
    where = f"On {PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}"
    if most is None:
        opening = f"{where}, n = {rows['n'].max()}) CKA is not defined at any layer"
    else:
        opening = (
            f"{where}, n = {most.n}) 1 − CKA to aligned is largest in {most.variant} at layer "
            f"{most.layer}, {with_band(most, lineup)}"
        )
    moved = over_seeds(
        weights.assign(low=weights["relative_change"], high=weights["relative_change"], n=1),
        ["block"],
        "relative_change",
    )
    blocks = moved["block"].nunique()
    parts = []
    for name in lineup.present(moved):
        own = moved[moved["variant"] == name]
        touched = own[own["value"] > 0]
        if touched.empty:
            parts.append(f"{name} moved none of them")
            continue
        top = largest(own)
        parts.append(
            f"{name} {len(touched)} of {blocks}, most in block {top.block} "
            f"({number(100 * top.value)} %)"
        )
    return two(
        opening,
        f"Blocks whose weights moved, with the change relative to their norm: {listed(parts)}",
    )


def cross_modal(frame: pd.DataFrame, lineup: Lineup, *, metric: str, words: str) -> str:
    """Where the modalities agree best, against wrong pairs and against before tuning."""
    pair, stream_image, stream_text = pairings(frame)[0]
    rows = frame[
        (frame["pair"] == pair)
        & (frame["stream_image"] == stream_image)
        & (frame["stream_text"] == stream_text)
    ]
    table = over_seeds(rows, ["metric", "layer"])
    chosen = table[table["metric"] == metric]
    streams = STREAM_SHORT[stream_image]
    if stream_image != stream_text:
        streams += f" and {STREAM_SHORT[stream_text]}"
    where = f"For {PAIR_WORDS[pair].replace(' | ', ' and ')} ({streams}"
    tuned = chosen[chosen["variant"].isin(lineup.variants)]
    best = largest(tuned if tuned["value"].notna().any() else chosen)
    if best is None:
        return two(
            f"{where}, n = {rows['n'].max()}) the {words} is not defined at any layer",
            "There are too few distinct vectors to compare",
        )
    k = int(rows.loc[rows["metric"] == metric, "k"].max())
    opening = (
        f"{where}{f', k = {k}' if k else ''}, n = {best.n}) the {words} is highest in "
        f"{best.variant} at layer {best.layer}, {with_band(best, lineup)}"
    )
    control = table[
        (table["metric"] == f"{metric}_random_pairs")
        & (table["variant"] == best.variant)
        & (table["layer"] == best.layer)
    ]
    if len(control):
        wrong = control.iloc[0]
        if overlap(best, wrong):
            verdict = f"not clearly different from the {short(wrong)} of wrong pairs"
        else:
            side = "above" if best.value > wrong["value"] else "below"
            verdict = f"{side} the {short(wrong)} of wrong pairs"
        opening += f", {verdict}"
    before = largest(chosen[chosen["variant"] == "aligned"])
    if before is None or best.variant == "aligned":
        return two(opening, "No subject from before and after tuning can be compared here")
    if overlap(best, before):
        verdict = f"does not differ clearly, since the {lineup.bands} overlap"
    else:
        verdict = "is raised by tuning" if best.value > before.value else "is lowered by tuning"
    return two(
        opening,
        f"In aligned the highest value is {number(before.value)} ({ends(before)}) at layer "
        f"{before.layer}: the highest value {verdict}",
    )
