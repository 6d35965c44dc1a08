"""All figures that a study may have, in the report's order: title, tables, drawing, sentences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from layersight.reporting import (
    figures_attention,
    figures_change,
    figures_cross_modal,
    figures_dimension,
    figures_layers,
    figures_recovery,
    figures_scores,
    figures_training,
    sentences,
    sentences_attention,
    sentences_outcomes,
)
from layersight.reporting.catalogue_geometry import GEOMETRY
from layersight.reporting.figure_entry import FigureEntry
from layersight.reporting.figure_names import DRAWN_FROM


def _has_streams(last: bool) -> Callable[[pd.DataFrame], bool]:
    return lambda frame: bool(figures_layers.probe_streams(frame, last=last))


def _has_sweep(name: str) -> Callable[[pd.DataFrame], bool]:
    return lambda frame: bool((frame["sweep"] == name).any())


def _cross_modal(
    name: str, title: str, rows: dict[str, str], metric: str, words: str
) -> FigureEntry:
    return FigureEntry(
        name,
        title,
        ("cross_modal",),
        partial(figures_cross_modal.cross_modal, metrics=rows),
        partial(sentences.cross_modal, metric=metric, words=words),
    )


_ENTRIES: tuple[FigureEntry, ...] = (
    *GEOMETRY,
    FigureEntry(
        "scores",
        "Scores of every subject",
        ("scores",),
        figures_scores.scores,
        sentences_outcomes.scores,
    ),
    FigureEntry(
        "differences",
        "What tuning gains over alignment",
        ("differences",),
        figures_scores.differences,
        sentences_outcomes.differences,
    ),
    FigureEntry(
        "presence",
        "Yes-or-no questions in detail",
        ("scores",),
        figures_scores.presence,
        sentences_outcomes.presence,
        lambda frame: bool((frame["benchmark"] == "presence").any()),
    ),
    FigureEntry(
        "recovery_cumulative",
        "Recovery of the first l blocks",
        ("recovery",),
        figures_recovery.recovery_cumulative,
        sentences_outcomes.recovery_cumulative,
        _has_sweep("cumulative"),
    ),
    FigureEntry(
        "recovery_sliding",
        "Recovery of single windows",
        ("recovery",),
        figures_recovery.recovery_sliding,
        sentences_outcomes.recovery_sliding,
        _has_sweep("sliding"),
    ),
    FigureEntry(
        "change",
        "Change per layer and per block",
        ("change", "weight_change"),
        figures_change.change,
        sentences.change,
    ),
    FigureEntry(
        "overlap_tuned",
        "Neighbours kept by tuning",
        ("change",),
        partial(figures_change.overlap_tuned, last=True),
        partial(sentences.overlap_tuned, last=True),
        _has_streams(True),
    ),
    FigureEntry(
        "overlap_tuned_means",
        "Neighbours kept by tuning, means over tokens",
        ("change",),
        partial(figures_change.overlap_tuned, last=False),
        partial(sentences.overlap_tuned, last=False),
        _has_streams(False),
    ),
    FigureEntry(
        "intrinsic_dimension",
        "Intrinsic dimension per layer",
        ("intrinsic_dimension",),
        partial(figures_dimension.intrinsic_dimension, last=True),
        partial(sentences.intrinsic_dimension, last=True),
        _has_streams(True),
    ),
    FigureEntry(
        "intrinsic_dimension_means",
        "Intrinsic dimension per layer, means over tokens",
        ("intrinsic_dimension",),
        partial(figures_dimension.intrinsic_dimension, last=False),
        partial(sentences.intrinsic_dimension, last=False),
        _has_streams(False),
    ),
    FigureEntry(
        "intrinsic_dimension_scales",
        "Intrinsic dimension over scales",
        ("intrinsic_dimension",),
        figures_dimension.intrinsic_dimension_scales,
        sentences.intrinsic_dimension_scales,
    ),
    _cross_modal(
        "overlap_modalities",
        "Shared neighbours of picture and words",
        figures_cross_modal.OVERLAPS,
        "overlap",
        "neighbourhood overlap",
    ),
    _cross_modal(
        "cka_modalities", "CKA of picture and words", figures_cross_modal.CKAS, "cka", "CKA"
    ),
    _cross_modal(
        "cosine_modalities",
        "Cosine of picture and words",
        figures_cross_modal.COSINES,
        "cosine_centred",
        "cosine after centring each modality",
    ),
    FigureEntry(
        "attention",
        "Attention to the image and to the text",
        ("attention",),
        figures_attention.attention,
        sentences_attention.attention,
    ),
    FigureEntry(
        "attention_parameters",
        "Balance of attention, trained parameters and scores",
        ("attention_summary", "scores"),
        figures_attention.attention_parameters,
        sentences_attention.attention_parameters,
    ),
    FigureEntry(
        "training",
        "Training curves",
        ("training",),
        figures_training.training,
        sentences_outcomes.training,
    ),
)  # fmt: skip

_BY_NAME = {entry.name: entry for entry in _ENTRIES}
FIGURES: tuple[FigureEntry, ...] = tuple(_BY_NAME[name] for name in DRAWN_FROM)
