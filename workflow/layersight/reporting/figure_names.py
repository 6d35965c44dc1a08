"""Which figures and tables a study has: known from the study alone, before anything is measured."""

from __future__ import annotations

from operator import attrgetter

from layersight import artefacts
from layersight.study import Study


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

    What a study leaves out (a sweep, a stream, a benchmark) has no figure. Probe sets take none
    away: the two that every study has, pictures and their names, carry every stream.

    Args:
        study: `activations`, `attention`, `benchmarks` and `patching` are read.
    """
    streams = set(study.activations.streams)
    last, means = "last" in streams, bool(streams & {"image_mean", "text_mean"})
    sweeps = {sweep.kind for sweep in study.patching.sweeps}
    # Pictures and words are compared at the last token, and between the means of both.
    paired = last or {"image_mean", "text_mean"} <= streams
    asked = {
        "scores": True,
        "differences": True,
        "presence": "presence" in study.benchmarks.tasks,
        "recovery_cumulative": "cumulative" in sweeps,
        "recovery_sliding": "sliding" in sweeps,
        "change": True,
        "overlap_tuned": last,
        "overlap_tuned_means": means,
        "intrinsic_dimension": last,
        "intrinsic_dimension_means": means,
        "intrinsic_dimension_scales": True,
        "overlap_modalities": paired,
        "cka_modalities": paired,
        "cosine_modalities": paired,
        "label_overlap": paired,
        "attention": study.attention is not None,
        "attention_parameters": study.attention is not None,
        "training": True,
    }
    return [name for name, wanted in asked.items() if wanted]
