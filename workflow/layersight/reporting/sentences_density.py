"""Two sentences on figures of density peaks, computed from their tables."""

from __future__ import annotations

import pandas as pd

from layersight.reporting.figures_density import (
    POOLED_WORDS,
    STREAM_SHORT,
    agreement_label,
    chosen_cloud,
    chosen_layers,
    peak_rows,
    pooled,
)
from layersight.reporting.figures_layers import leading, main_streams, rows_of
from layersight.reporting.layer_wording import against_control, course, farthest, reference_of
from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds
from layersight.reporting.wording import largest, listed, number, sample_of, two, with_band

TOO_FEW = "There are too few distinct vectors, or too few neighbours, to find peaks"


def density_peaks(frame: pd.DataFrame, lineup: Lineup) -> str:
    """How many peaks there are, and how far they are what a label says."""
    label = agreement_label(frame)
    rows = peak_rows(frame, label)
    probe, stream = leading(main_streams(rows))
    rows = rows_of(rows, probe=probe, stream=stream)
    both = over_seeds(rows, ["metric", "layer"])
    peaks = rows_of(both, metric="peaks").dropna(subset=["value"])
    where = (
        f"On {PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, k = {rows['k'].max()}, "
        f"{sample_of(rows)})"
    )
    if peaks.empty:
        return two(f"{where} no density peak is defined at any layer", TOO_FEW)
    opening = f"{where} {course(peaks, reference_of(peaks, lineup), 'number of peaks', lineup)}"
    agreed = rows_of(both, metric="ari").dropna(subset=["value"])
    best = largest(agreed)
    if best is None:
        return two(opening, "No label was held against the peaks")
    control = against_control(best, rows_of(both, metric="ari_permuted"), "of permuted labels")
    return two(
        opening,
        f"They agree best with the {label} in {best.variant} at layer {best.layer}, where the "
        f"adjusted Rand index is {with_band(best, lineup)}{control}",
    )


def density_modalities(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Where peaks hold one modality each, and where tuning alters that most."""
    probe, stream = pooled(frame)[0]
    rows = rows_of(frame, probe=probe, stream=stream, labels="modality")
    both = over_seeds(rows, ["metric", "layer"])
    table = rows_of(both, metric="homogeneity").dropna(subset=["value"])
    streams = STREAM_SHORT.get(stream, stream.replace("_", " "))
    where = (
        f"Among {POOLED_WORDS[probe]} together ({streams}, k = {rows['k'].max()}, "
        f"{sample_of(rows)})"
    )
    if table.empty:
        return two(f"{where} no density peak is defined at any layer", TOO_FEW)
    first = reference_of(table, lineup)
    told = course(table, first, "homogeneity against modality", lineup)
    top = largest(table[table["variant"] == first])
    control = against_control(
        top, rows_of(both, metric="homogeneity_permuted"), "of permuted modalities"
    )
    told = told.replace(", and smallest", f"{control}, and smallest")
    return two(f"{where} {told}", farthest(table, lineup))


def density_dendrograms(
    merges: pd.DataFrame, peaks: pd.DataFrame, frame: pd.DataFrame, lineup: Lineup
) -> str:
    """How many peaks stand at each layer, how pure they are, and how deep their saddles lie."""
    subject, probe, stream = chosen_cloud(frame, lineup)
    cloud = {"subject": subject, "probe": probe, "stream": stream}
    label = agreement_label(frame)
    own = rows_of(frame, **cloud)
    layers = chosen_layers(own)
    where = f"For {subject} on {PROBE_WORDS[probe]} ({STREAM_WORDS[stream]}, {sample_of(own)})"
    if not layers:
        return two(f"{where} no density peak is defined at any layer", TOO_FEW)
    named, merged = rows_of(peaks, **cloud, labels=label), rows_of(merges, **cloud)
    counts, depths = [], []
    for layer, words in layers:
        these = rows_of(named, layer=layer)
        pure = (these["label_share"] * these["items"]).sum() / these["items"].sum()
        of_peaks = "1 peak" if len(these) == 1 else f"{len(these)} peaks"
        counts.append(
            f"layer {layer} ({words}) has {of_peaks}, in which {number(100 * pure)} % of the items "
            f"are of their peak’s commonest {label}"
        )
        heights = rows_of(merged, layer=layer)["height"]
        if len(heights):
            depths.append(f"{number(heights.max())} at layer {layer}")
    told = (
        f"The last two branches merge at a log density below the highest peak of {listed(depths)}"
        if depths
        else "None of these layers has two peaks, so there is no hierarchy"
    )
    return two(f"{where} {listed(counts)}", told)
