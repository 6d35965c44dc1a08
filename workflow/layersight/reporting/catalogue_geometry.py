"""Figures of the geometry toolbox: title, tables, drawing, sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pandas as pd

from layersight.reporting import (
    figures_alignment,
    figures_density,
    figures_dimension,
    figures_matrices,
    figures_neighbours,
    figures_probes,
    figures_spectrum,
    figures_tokens,
    sentences_alignment,
    sentences_clouds,
    sentences_density,
    sentences_matrices,
    sentences_neighbours,
)
from layersight.reporting.figure_entry import FigureEntry
from layersight.reporting.figures_grid import Row


def _compares(comparison: str) -> Callable[[pd.DataFrame], bool]:
    return lambda frame: bool((frame["comparison"] == comparison).any())


def _overlap_scales(name: str, title: str, comparison: str) -> FigureEntry:
    return FigureEntry(
        name,
        title,
        ("overlap",),
        partial(figures_neighbours.overlap_scales, comparison=comparison),
        partial(sentences_neighbours.overlap_scales, comparison=comparison),
        _compares(comparison),
    )


def _alignment(
    name: str, title: str, rows: Sequence[Row], words: str, control: str, low: bool = False
) -> FigureEntry:
    return FigureEntry(
        name,
        title,
        ("alignment",),
        partial(figures_alignment.alignment, rows=rows, tuned=False, control=control),
        partial(
            sentences_alignment.peak,
            rows=rows,
            words=words,
            control=f"of {control}",
            tuned=False,
            low=low,
        ),
        _compares("image_text"),
    )


GEOMETRY: tuple[FigureEntry, ...] = (
    FigureEntry(
        "concentration",
        "Where the change concentrates",
        ("concentration",),
        figures_matrices.concentration,
        sentences_matrices.concentration,
    ),
    FigureEntry(
        "matrix_change",
        "Change of every matrix",
        ("matrix_change",),
        figures_matrices.matrix_change,
        sentences_matrices.matrix_change,
    ),
    _overlap_scales(
        "overlap_tuned_scales", "Neighbours kept by tuning, over numbers of them", "tuned_base"
    ),
    FigureEntry(
        "overlap_layers",
        "Neighbours kept from layer to layer",
        ("overlap",),
        figures_neighbours.overlap_layers,
        sentences_neighbours.overlap_layers,
        _compares("consecutive"),
    ),
    FigureEntry(
        "dimension_decimation",
        "Intrinsic dimension over sample size",
        ("intrinsic_dimension",),
        figures_dimension.dimension_decimation,
        sentences_neighbours.dimension_decimation,
    ),
    FigureEntry(
        "spectrum",
        "Shape of the cloud",
        ("spectrum",),
        figures_spectrum.spectrum,
        sentences_clouds.spectrum,
    ),
    FigureEntry(
        "massive",
        "Massive activations",
        ("massive", "spectrum"),
        figures_spectrum.massive,
        sentences_clouds.massive,
    ),
    FigureEntry(
        "label_overlap",
        "Neighbours with the same label",
        ("label_overlap",),
        figures_neighbours.label_overlap,
        sentences_neighbours.label_overlap,
    ),
    FigureEntry(
        "density_peaks",
        "Density peaks",
        ("density",),
        figures_density.density_peaks,
        sentences_density.density_peaks,
        lambda frame: bool((frame["labels"] != "modality").any()),
    ),
    FigureEntry(
        "density_dendrograms",
        "Hierarchy of density peaks",
        ("density_merges", "density_peaks", "density"),
        figures_density.density_dendrograms,
        sentences_density.density_dendrograms,
    ),
    FigureEntry(
        "density_modalities",
        "Density peaks of both modalities together",
        ("density",),
        figures_density.density_modalities,
        sentences_density.density_modalities,
        lambda frame: bool(figures_density.pooled(frame)),
    ),
    _overlap_scales(
        "overlap_modalities_scales",
        "Shared neighbours of picture and words, over numbers of them",
        "image_text",
    ),
    FigureEntry(
        "svcca",
        "SVCCA and correlation of intrinsic dimension",
        ("alignment",),
        partial(figures_alignment.alignment, rows=figures_alignment.SHAPES),
        sentences_alignment.svcca,
        _compares("image_text"),
    ),
    _alignment(
        "cosine_medians",
        "Median cosine of picture and words",
        figures_alignment.MEDIANS,
        "median cosine",
        "wrong pairs",
    ),
    _alignment(
        "modality_gap",
        "Gap between the modalities",
        figures_alignment.GAPS,
        "gap between the modalities’ mean directions",
        "swapped sides",
        low=True,
    ),
    FigureEntry(
        "information_imbalance",
        "Information imbalance",
        ("alignment",),
        partial(figures_alignment.alignment, rows=figures_alignment.IMBALANCES),
        sentences_alignment.imbalance,
        _compares("image_text"),
    ),
    FigureEntry(
        "linear_probes",
        "Linear probes within and across modalities",
        ("linear_probes",),
        figures_probes.linear_probes,
        sentences_alignment.linear_probes,
    ),
    FigureEntry(
        "token_clouds",
        "Token clouds",
        ("token_clouds",),
        figures_tokens.token_clouds,
        sentences_clouds.token_clouds,
    ),
    FigureEntry(
        "token_cloud_loss",
        "Dimension of token clouds and loss",
        ("token_cloud_loss",),
        figures_tokens.token_cloud_loss,
        sentences_clouds.token_cloud_loss,
    ),
)
