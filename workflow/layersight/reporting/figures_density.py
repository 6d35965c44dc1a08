"""Figures of density peaks: how many, whether they are what labels say, and their hierarchy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from layersight.reporting.figures_grid import Row, line_grid
from layersight.reporting.figures_layers import leading, main_streams, rows_of
from layersight.reporting.lineup import PROBE_WORDS, Lineup, variant_of
from layersight.reporting.style import FULL_WIDTH, styled

POOLED_WORDS = {
    "concepts": "pictures and their names",
    "questions": "questions with picture and with text",
}
STREAM_SHORT = {"last": "last token", "image_mean": "image mean", "text_mean": "text mean"}
LABEL = "kind"
MOST_LEAVES = 24


def agreement_label(frame: pd.DataFrame) -> str:
    """Return the labelling that peaks are held against: the kind, or the first that there is."""
    found = [label for label in dict.fromkeys(frame["labels"]) if label and label != "modality"]
    return LABEL if LABEL in found or not found else found[0]


def peak_rows(frame: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return the rows of one labelling, and those of none."""
    return frame[frame["labels"].isin(["", label])]


@styled
def density_peaks(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Number of peaks, share of core items, and agreement with a label, per layer.

    Args:
        frame: the table `density`.
        lineup: the subjects.
    """
    label = agreement_label(frame)
    rows = peak_rows(frame, label)
    columns = [
        (PROBE_WORDS[probe], rows_of(rows, probe=probe, stream=stream))
        for probe, stream in main_streams(rows)
    ]
    return line_grid(
        columns,
        [
            Row("peaks", "density peaks", floor=0.0),
            Row("core_fraction", "share of core items"),
            Row("ari", f"ARI with {label}", control="ari_permuted", floor=0.0),
        ],
        lineup,
        control="labels permuted",
    )


def pooled(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pooled probe sets and streams with modality labels, the last token first."""
    rows = frame[(frame["labels"] == "modality") & frame["probe"].isin(list(POOLED_WORDS))]
    found = set(zip(rows["probe"], rows["stream"], strict=True))
    return sorted(found, key=lambda pair: (pair[1] != "last", pair))


def pooled_title(probe: str, stream: str) -> str:
    """Name of a pooled cloud, on two lines."""
    return f"{POOLED_WORDS[probe]}\n{STREAM_SHORT.get(stream, stream.replace('_', ' '))}"


@styled
def density_modalities(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Whether density peaks hold one modality each, in clouds of both modalities together.

    Args:
        frame: the table `density`.
        lineup: the subjects.
    """
    rows = rows_of(frame, labels="modality")
    columns = [
        (pooled_title(probe, stream), rows_of(rows, probe=probe, stream=stream))
        for probe, stream in pooled(frame)
    ]
    return line_grid(
        columns,
        [
            Row("homogeneity", "homogeneity", control="homogeneity_permuted", floor=0.0),
            Row("completeness", "completeness", control="completeness_permuted", floor=0.0),
        ],
        lineup,
        control="modalities permuted",
    )


def chosen_cloud(frame: pd.DataFrame, lineup: Lineup) -> tuple[str, str, str]:
    """Return the subject, probe set and stream whose dendrograms are drawn.

    The subject is the first tuned one, or the first there is.
    """
    own = frame[frame["probe"].isin(list(PROBE_WORDS))]
    probe, stream = leading(main_streams(own))
    subjects = list(dict.fromkeys(own["subject"]))
    tuned = [
        subject
        for variant in lineup.variants
        for subject in subjects
        if variant_of(subject) == variant
    ]
    return (tuned or subjects)[0], probe, stream


def chosen_layers(frame: pd.DataFrame) -> list[tuple[int, str]]:
    """Return an early layer, that of the largest ARI and the last, with what each is.

    Args:
        frame: rows of the table `density` of one cloud. Layers without peaks do not count.
    """
    peaks = rows_of(frame, metric="peaks").dropna(subset=["value"])
    layers = sorted(int(layer) for layer in peaks["layer"])
    if not layers:
        return []
    agreed = rows_of(frame, metric="ari", labels=agreement_label(frame)).dropna(subset=["value"])
    early = next((layer for layer in layers if layer > 0), layers[0])
    words = {early: "early"}
    if len(agreed):
        best = int(agreed.loc[agreed["value"].idxmax(), "layer"])
        words[best] = "highest ARI" if best not in words else "early, highest ARI"
    last = layers[-1]
    words[last] = "last" if last not in words else f"{words[last]}, last"
    return [(layer, words[layer]) for layer in sorted(words)]


def linkage_of(merges: pd.DataFrame) -> Any:
    """Return merges as `scipy.cluster.hierarchy` has them, `(p - 1, 4)` float64."""
    rows = merges.sort_values("merge")
    return rows[["left", "right", "height", "peaks"]].to_numpy(dtype=np.float64)


@styled
def density_dendrograms(
    merges: pd.DataFrame, peaks: pd.DataFrame, frame: pd.DataFrame, lineup: Lineup
) -> Figure:
    """Hierarchy of the density peaks of one subject at three layers.

    Args:
        merges: the table `density_merges`.
        peaks: the table `density_peaks`.
        frame: the table `density`.
        lineup: the subjects.
    """
    subject, probe, stream = chosen_cloud(frame, lineup)
    cloud = {"subject": subject, "probe": probe, "stream": stream}
    label = agreement_label(frame)
    layers = chosen_layers(rows_of(frame, **cloud))
    named = rows_of(peaks, **cloud, labels=label)
    merged = rows_of(merges, **cloud)
    leaves = [min(MOST_LEAVES, int((named["layer"] == layer).sum())) for layer, _ in layers]
    height = 0.95 + 0.135 * max([4, *leaves])
    figure = Figure(figsize=(FULL_WIDTH, height), layout="constrained")
    axes = figure.subplots(1, max(1, len(layers)), squeeze=False, sharex=True)[0]
    # Roots stand left and leaves right, where their names are.
    top = merged[merged["layer"].isin([layer for layer, _ in layers])]["height"].max()
    axes[0].set_xlim(1.03 * top if top > 0 else 1.0, 0.0)
    for ax, (layer, words) in zip(axes, layers, strict=False):
        _tree(ax, rows_of(merged, layer=layer), rows_of(named, layer=layer))
        ax.set_title(f"layer {layer} ({words})")
    if not layers:
        axes[0].text(0.5, 0.5, "not defined", ha="center", va="center", color="#555555")
        axes[0].set_yticks([])
    figure.supxlabel("depth of the saddle below the highest peak (log density)", fontsize=8)
    figure.suptitle(f"{subject}: {PROBE_WORDS[probe]}, peaks by {label}", fontsize=8)
    return figure


def leaf_names(named: pd.DataFrame) -> list[str]:
    """Return what each peak is, by its number: majority label, its share and the items."""
    return [
        f"{row.label} {100 * row.label_share:.0f} % of {row.items}"
        for row in named.sort_values("peak").itertuples(index=False)
    ]


def _tree(ax: Axes, merges: pd.DataFrame, named: pd.DataFrame) -> None:
    names = leaf_names(named)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if len(names) < 2:
        ax.set_yticks([0], names or ["no peak"], fontsize=6.5)
        ax.yaxis.set_ticks_position("right")
        ax.set_ylim(-0.5, 0.5)
        ax.text(0.5, 0.7, "a single peak", transform=ax.transAxes, ha="center", color="#555555")
        return
    links = linkage_of(merges)
    whole = [1] * len(names) + [int(row[3]) for row in links]
    found = dendrogram(
        links,
        p=MOST_LEAVES,
        truncate_mode="lastp",
        orientation="right",
        no_plot=True,
        leaf_label_func=lambda node: names[node] if whole[node] == 1 else f"{whole[node]} peaks",
    )
    for heights, places in zip(found["dcoord"], found["icoord"], strict=True):
        ax.plot(heights, [(place - 5) / 10 for place in places], color="#0072B2", linewidth=0.9)
    ax.set_yticks(range(len(found["ivl"])), found["ivl"], fontsize=6.5)
    ax.yaxis.set_ticks_position("right")
    ax.set_ylim(-0.7, len(found["ivl"]) - 0.3)
