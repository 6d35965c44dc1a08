"""Which figures and tables a study has: known from the study alone, before anything is measured."""

from __future__ import annotations

from operator import attrgetter

from layersight import artefacts
from layersight.study import Study

# Figures in the report's order, with the tables that they are drawn from: those of
# `catalogue.FIGURES`, which is not imported here since it loads what draws.
DRAWN_FROM = {
    "scores": ("scores",),
    "differences": ("differences",),
    "presence": ("scores",),
    "recovery_cumulative": ("recovery",),
    "recovery_sliding": ("recovery",),
    "concentration": ("concentration",),
    "change": ("change", "weight_change"),
    "matrix_change": ("matrix_change",),
    "overlap_tuned": ("change",),
    "overlap_tuned_means": ("change",),
    "overlap_tuned_scales": ("overlap",),
    "overlap_layers": ("overlap",),
    "intrinsic_dimension": ("intrinsic_dimension",),
    "intrinsic_dimension_means": ("intrinsic_dimension",),
    "intrinsic_dimension_scales": ("intrinsic_dimension",),
    "dimension_decimation": ("intrinsic_dimension",),
    "spectrum": ("spectrum",),
    "massive": ("massive", "spectrum"),
    "label_overlap": ("label_overlap",),
    "density_peaks": ("density",),
    "density_dendrograms": ("density_merges", "density_peaks", "density"),
    "density_modalities": ("density",),
    "overlap_modalities": ("cross_modal",),
    "overlap_modalities_scales": ("overlap",),
    "cka_modalities": ("cross_modal",),
    "svcca": ("alignment",),
    "cosine_modalities": ("cross_modal",),
    "cosine_medians": ("alignment",),
    "modality_gap": ("alignment",),
    "information_imbalance": ("alignment",),
    "linear_probes": ("linear_probes",),
    "token_clouds": ("token_clouds",),
    "token_cloud_loss": ("token_cloud_loss",),
    "attention": ("attention",),
    "attention_parameters": ("attention_summary", "scores"),
    "training": ("training",),
}


def tables_of(study: Study) -> dict[str, str]:
    """Return name and path, below `results/<study>/`, of every table that a study has.

    Args:
        study: the keys of `artefacts.OPTIONAL_TABLES` are read.
    """
    tables = dict(artefacts.TABLES)
    for key, wanted in artefacts.OPTIONAL_TABLES.items():
        if asks_for(study, key):
            tables |= wanted
    return tables


def asks_for(study: Study, key: str) -> bool:
    """Return whether a study has an optional part, such as `attention` or `geometry.density`."""
    return attrgetter(key)(study) is not None


def figure_names(study: Study) -> list[str]:
    """Return the names of a study's figures in the report's order.

    What a study leaves out (a table, a sweep, a stream, a benchmark) has no figure. Probe sets take
    none away: the two that every study has, pictures and their names, carry every stream.

    Args:
        study: what `tables_of` reads, `activations`, `benchmarks` and `patching` are read.
    """
    streams = set(study.activations.streams)
    last, means = "last" in streams, bool(streams & {"image_mean", "text_mean"})
    sweeps = {sweep.kind for sweep in study.patching.sweeps}
    # Pictures and words are compared at the last token, and between the means of both.
    paired = last or {"image_mean", "text_mean"} <= streams
    wanted = {
        "presence": "presence" in study.benchmarks.tasks,
        "recovery_cumulative": "cumulative" in sweeps,
        "recovery_sliding": "sliding" in sweeps,
        "overlap_tuned": last,
        "overlap_tuned_means": means,
        "intrinsic_dimension": last,
        "intrinsic_dimension_means": means,
        "density_modalities": paired,
        "overlap_modalities": paired,
        "overlap_modalities_scales": paired,
        "cka_modalities": paired,
        "svcca": paired,
        "cosine_modalities": paired,
        "cosine_medians": paired,
        "modality_gap": paired,
        "information_imbalance": paired,
        "linear_probes": paired,
    }
    there = set(tables_of(study))
    return [
        name
        for name, tables in DRAWN_FROM.items()
        if set(tables) <= there and wanted.get(name, True)
    ]
