"""Figures of shared neighbours: over layers and k, between layers, and with the same label."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from layersight.reporting.figures_grid import Row, line_grid
from layersight.reporting.figures_layers import leading, main_streams, nearest_k, rows_of
from layersight.reporting.figures_maps import left_note, limits, some_panels, subject_maps
from layersight.reporting.lineup import PROBE_WORDS, STREAM_WORDS, Lineup, over_seeds
from layersight.reporting.style import styled

PAIRED_WORDS = {
    ("pair_images", "pair_texts"): "pictures | names",
    ("visual_questions", "text_questions"): "questions with picture | with text",
}
STREAM_SHORT = {"last": "last token", "image_mean": "image mean", "text_mean": "text mean"}
LABEL_WORDS = {"kind": "same kind", "answer": "same answer", "modality": "same modality"}
CONTROL = "wrong pairs, mean"
PAIRED = ["probe", "reference_probe", "stream", "reference_stream"]


def compared(frame: pd.DataFrame, comparison: str) -> pd.DataFrame:
    """Return the rows of a comparison; of tuned and base, those with `aligned` if there are any."""
    rows = rows_of(frame, comparison=comparison)
    if comparison == "tuned_base" and (rows["reference"] == "aligned").any():
        rows = rows_of(rows, reference="aligned")
    return rows


def pairs_of(frame: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Return probe sets and streams of both sides, the last token first, then the concepts."""
    found = set(frame[PAIRED].itertuples(index=False, name=None))
    order = list(PAIRED_WORDS)
    return sorted(
        found,
        key=lambda key: (
            key[2] != "last",
            order.index(key[:2]) if key[:2] in order else len(order),
            key,
        ),
    )


def pair_title(pair: tuple[str, str, str, str]) -> str:
    """Name of a pair of probe sets and streams, on two lines."""
    first, second = STREAM_SHORT[pair[2]], STREAM_SHORT[pair[3]]
    streams = first if first == second else f"{first} | {second}"
    known = PAIRED_WORDS.get(pair[:2])
    words = known or " | ".join(PROBE_WORDS[probe] for probe in dict.fromkeys(pair[:2]))
    return f"{words}\n{streams}"


def of_pair(frame: pd.DataFrame, pair: tuple[str, str, str, str]) -> pd.DataFrame:
    """Return the rows of one pair of probe sets and streams."""
    return rows_of(frame, **dict(zip(PAIRED, pair, strict=True)))


def main_overlaps(frame: pd.DataFrame, comparison: str) -> tuple[str, pd.DataFrame]:
    """Return what a heat map of a comparison shows, in words, and its rows."""
    rows = compared(frame, comparison)
    if comparison == "image_text":
        pair = pairs_of(rows)[0]
        return pair_title(pair).replace("\n", ", "), of_pair(rows, pair)
    probe, stream = leading(main_streams(rows))
    return f"{PROBE_WORDS[probe]}, {STREAM_WORDS[stream]}", rows_of(
        rows, probe=probe, stream=stream
    )


@styled
def overlap_scales(frame: pd.DataFrame, lineup: Lineup, *, comparison: str) -> Figure:
    """Overlap over layers and numbers of neighbours, one map a subject, and the control.

    Args:
        frame: the table `overlap`.
        lineup: the subjects.
        comparison: "tuned_base" or "image_text".
    """
    what, rows = main_overlaps(frame, comparison)
    table = over_seeds(rows, ["layer", "k"])
    names = lineup.present(table)
    shown = some_panels(names, 11)
    wrong = rows.groupby(["layer", "k"])["random_pairs"].mean().reset_index(name="value")
    panels = [(name, table[table["variant"] == name]) for name in shown]
    panels.append((CONTROL, wrong))
    figure, axes = subject_maps(
        panels,
        y="k",
        rows=sorted(table["k"].unique()),
        last=int(frame["layer"].max()),
        ylabel="neighbours k",
        label="overlap",
        norm=limits(pd.concat([table["value"], wrong["value"]])),
    )
    axes[-1].set_title(CONTROL, fontsize=8, style="italic")
    note = left_note(names, shown, "overlap")
    figure.suptitle(f"{what} ({note})" if note else what, fontsize=8)
    return figure


def tall(rows: pd.DataFrame, metric: str = "overlap") -> pd.DataFrame:
    """Put the controls of overlaps below them, as metrics of their own."""
    nothing = float("nan")
    wrong = rows.assign(
        metric=f"{metric}_random_pairs",
        value=rows["random_pairs"],
        low=rows["random_low"],
        high=rows["random_high"],
    )
    chance = rows.assign(metric=f"{metric}_chance", value=rows["chance"], low=nothing, high=nothing)
    return pd.concat([rows.assign(metric=metric), wrong, chance], ignore_index=True)


@styled
def overlap_layers(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Neighbours that each layer shares with the next one.

    Args:
        frame: the table `overlap`.
        lineup: the subjects.
    """
    rows = compared(frame, "consecutive")
    rows = rows_of(rows, k=nearest_k(rows["k"]))
    columns = [
        (PROBE_WORDS[probe], tall(rows_of(rows, probe=probe, stream=stream)))
        for probe, stream in main_streams(rows)
    ]
    label = f"overlap with the\nnext layer (k = {rows['k'].max()})"
    return line_grid(
        columns, [Row("overlap", label, control="overlap_random_pairs")], lineup, row_height=2.1
    )


def labelled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row a label and layer: means over items at one number of neighbours."""
    rows = rows_of(frame, weighting="items")
    rows = rows_of(rows, k=nearest_k(rows["k"]))
    nothing = float("nan")
    chance = rows.assign(
        metric=rows["label"] + "_chance", value=rows["chance"], low=nothing, high=nothing
    )
    return pd.concat([rows.assign(metric=rows["label"]), chance], ignore_index=True)


def labels_of(frame: pd.DataFrame) -> list[str]:
    """Return the labels of a table, known ones first."""
    found = list(dict.fromkeys(frame["label"]))
    return [label for label in LABEL_WORDS if label in found] + sorted(
        label for label in found if label not in LABEL_WORDS
    )


@styled
def label_overlap(frame: pd.DataFrame, lineup: Lineup) -> Figure:
    """Share of neighbours with the label of the item, one row a label.

    Args:
        frame: the table `label_overlap`.
        lineup: the subjects.
    """
    rows = labelled(frame)
    columns = [
        (PROBE_WORDS[probe], rows_of(rows, probe=probe, stream=stream))
        for probe, stream in main_streams(rows)
    ]
    return line_grid(
        columns,
        [
            Row(label, LABEL_WORDS.get(label, f"same {label}"), guide=f"{label}_chance")
            for label in labels_of(frame)
        ],
        lineup,
        guide=f"chance (k = {rows['k'].max()})",
    )
