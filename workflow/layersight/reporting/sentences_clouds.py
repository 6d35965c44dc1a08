"""Two sentences on figures of spectra, massive activations and token clouds."""

from __future__ import annotations

import pandas as pd

from layersight.reporting.figures_change import change_panels
from layersight.reporting.figures_layers import rows_of
from layersight.reporting.figures_spectrum import (
    largest_values,
    leading_dimensions,
    massive_cloud,
    shown_subject,
)
from layersight.reporting.figures_tokens import (
    cloud_rows,
    levels_of,
    loss_rows,
    of_metric,
    of_variant,
    shuffled_variant,
)
from layersight.reporting.layer_wording import course, farthest, reference_of
from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds
from layersight.reporting.wording import (
    ends,
    includes,
    largest,
    number,
    sample_of,
    smallest,
    two,
    with_band,
)


def spectrum(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Where effective rank and anisotropy peak before tuning, and what tuning does to the rank."""
    probe, stream = change_panels(frame)[0]
    rows = rows_of(frame, probe=probe, stream=stream)
    both = over_seeds(rows, ["metric", "layer"])
    where = f"On {PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, {sample_of(rows)})"
    rank = rows_of(both, metric="effective_rank").dropna(subset=["value"])
    if rank.empty:
        return two(
            f"{where} no spectrum is defined at any layer", "There are too few distinct vectors"
        )
    first = reference_of(rank, lineup)
    told = course(rank, first, "effective rank", lineup)
    cone = largest(rows_of(both, metric="anisotropy", variant=first))
    beside = (
        "" if cone is None else f"; anisotropy peaks at {number(cone.value)}, layer {cone.layer}"
    )
    return two(f"{where} {told}{beside}", farthest(rank, lineup))


def massive(frame: pd.DataFrame, measures: pd.DataFrame, lineup: Lineup) -> str:
    """How large the largest values are, where, and how much of the length they carry."""
    probe, stream = massive_cloud(frame)
    cloud = {"probe": probe, "stream": stream}
    rows, own = rows_of(frame, **cloud), rows_of(measures, **cloud)
    subject = shown_subject(rows, lineup)
    top = largest(rows_of(largest_values(rows), subject=subject))
    named = leading_dimensions(rows_of(rows, subject=subject), 1)
    where = f"On {PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, {sample_of(own)})"
    if top is None:
        return two(f"{where} no value is defined", "There are no vectors to look at")
    opening = (
        f"{where} the largest value of {subject} has the magnitude {top.value:.3g}, at layer "
        f"{top.layer}, in dimension {named[0]}"
    )
    shares = over_seeds(rows_of(own, metric="massive_norm_share"), ["layer"])
    most = largest(shares)
    if most is None or most.value == 0:
        return two(opening, "No value is massive in any subject and layer")
    few = rows[rows["massive"]].groupby(["subject", "layer"])["dimension"].nunique()
    span = f"{few.min()}" if few.min() == few.max() else f"{few.min()} to {few.max()}"
    return two(
        opening,
        f"Massive dimensions, {span} of them where there are any, carry at "
        f"most {with_band(most, lineup)} of the squared length, in {most.variant} at layer "
        f"{most.layer}",
    )


def token_clouds(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Where the dimension of token clouds peaks, and what shuffling does to the peak."""
    probe, rows = cloud_rows(frame)
    own = of_metric(rows, "gride")
    name, levels = shuffled_variant(rows, lineup), levels_of(rows)
    written = rows_of(own, shuffle=levels[0])
    table = over_seeds(written, ["layer"]).dropna(subset=["value"])
    size = f"{sample_of(written)} prompts of {number(written['tokens'].mean())} tokens on average"
    where = f"In token clouds of {PROBE_WORDS[probe]} (n2 = {own['k'].max()}, {size})"
    if table.empty:
        return two(f"{where} no dimension is defined", "The prompts have too few distinct tokens")
    opening = f"{where} {course(table, name, 'mean dimension', lineup)}"
    tops = []
    for level in levels:
        peak = largest(over_seeds(of_variant(rows_of(own, shuffle=level), name), ["layer"]))
        if peak is not None:
            tops.append((level, peak))
    if len(tops) < 2:
        return two(opening, farthest(table, lineup))
    (_, before), (level, after) = tops[0], tops[-1]
    change = 100 * (after.value / before.value - 1)
    verdict = "more" if change > 0 else "less"
    same = not (after.low > before.high or after.high < before.low)
    clear = " (the intervals overlap)" if same else ""
    return two(
        opening,
        f"With the most shuffled blocks, S = {level}, the peak is {number(after.value)} "
        f"({ends(after)}) at layer {after.layer}, {number(abs(change))} % {verdict}{clear}",
    )


def token_cloud_loss(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Where dimension and loss go together most, and how many correlations exclude zero."""
    probe, rows = loss_rows(frame)
    levels = levels_of(rows)
    own = rows_of(rows, shuffle=levels[0], correlation="pearson_log")
    table = over_seeds(own, ["layer"]).dropna(subset=["value"])
    where = f"In token clouds of {PROBE_WORDS[probe]} (n2 = {rows['k'].max()}, {sample_of(own)})"
    if table.empty:
        return two(
            f"{where} the correlation of dimension and loss is not defined",
            "There are too few prompts, or all have one dimension",
        )
    first = reference_of(table, lineup)
    strongest = largest(table.assign(size=table["value"].abs()), "size")
    clear = sum(not includes(row, 0.0) for row in table.itertuples(index=False))
    mine = table[table["variant"] == first]
    most, least = largest(mine), smallest(mine)
    return two(
        f"{where} the logarithm of the dimension and the loss correlate most in "
        f"{strongest.variant} at layer {strongest.layer}, {with_band(strongest, lineup)}",
        f"Of {len(table)} subjects and layers {clear} have a band without zero; over the layers "
        f"of {first} the correlation lies between {number(least.value)} (layer {least.layer}) and "
        f"{number(most.value)} (layer {most.layer})",
    )
