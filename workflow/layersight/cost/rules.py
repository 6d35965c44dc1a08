"""The prediction of every rule, by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from layersight.cost import geometry, light, steps, training
from layersight.cost.estimate import Cost
from layersight.study import Study

STAGES: dict[str, dict[str, Callable[..., Cost]]] = {
    "assets": {
        "fetch_package": light.fetch_package,
        "fetch_model": light.fetch_model,
        "fetch_pictures": light.fetch_pictures,
        "fetch_conversations": light.fetch_conversations,
        "fetch_questions": light.fetch_questions,
        "convert_language_model": light.convert_language_model,
    },
    "data": {
        "make_concepts": light.make_concepts,
        "make_images": light.make_images,
        "read_questions": light.read_questions,
        "join_images": light.join_images,
        "make_question_tasks": light.make_question_tasks,
        "make_align": light.make_align,
        "make_instruct": light.make_instruct,
        "import_align": partial(light.import_conversations, stage="align"),
        "import_instruct": partial(light.import_conversations, stage="tuning"),
        "make_probes": light.make_probes,
        "make_benchmarks": light.make_benchmarks,
        "features": steps.features,
    },
    "models": {
        "make_random_language_model": light.make_random_language_model,
        "align": training.align,
        "tune": training.tune,
        "take_connector": steps.take_connector,
        "take_released": steps.take_released,
    },
    "activations": {"capture_activations": steps.activations},
    "geometry": {
        "find_neighbours": geometry.find_neighbours,
        "pool_neighbours": geometry.pool_neighbours,
        "intrinsic_dimension": geometry.intrinsic_dimension,
        "overlap": geometry.overlap,
        "cross_modal": geometry.cross_modal,
        "change": geometry.change,
        "density": geometry.density,
        "alignment": geometry.alignment,
        "spectrum": geometry.spectrum,
        "linear_probes": geometry.linear_probes,
        "weight_change": geometry.weight_change,
        "geometry_tables": geometry.geometry_tables,
        "concentration": geometry.concentration,
    },
    "token clouds": {
        "token_clouds": steps.token_clouds,
        "token_cloud_tables": light.token_cloud_tables,
    },
    "attention": {
        "attention": steps.attention,
        "attention_tables": light.attention_tables,
    },
    "patching": {
        "patching_sweep": steps.patching,
        "recovery_table": light.recovery_table,
    },
    "benchmarks": {
        "score_items": steps.benchmarks,
        "score_tables": light.score_tables,
    },
    "report": {
        "training_table": light.training_table,
        "resolved_study": light.resolved_study,
        "figures": light.figures,
        "make_report": light.make_report,
        "make_run_page": light.make_run_page,
    },
}
"""Stages in their order, and the prediction of each of their rules. `assets` fills the cache that
studies share; all others write below `results/`."""

RULES = {rule: predicted for stage in STAGES.values() for rule, predicted in stage.items()}
ON_GPU = {
    "features", "align", "tune", "capture_activations", "attention", "token_clouds",
    "patching_sweep", "score_items",
}  # fmt: skip
"""Rules that ask for a GPU."""


def predict(study: Study, rule: str, *, on_gpu: bool | None = None, **wildcards: Any) -> Cost:
    """Return what one job of a rule will take.

    Args:
        study: the study.
        rule: its name, one of `RULES`.
        on_gpu: whether a GPU computes; None: if `compute.device` is `cuda`. No GPU was measured:
            its speed is an A100's published peak times an assumed utilisation.
        wildcards: of the job: `subject`, `variant`, `seed`, `package`, `model`. `probes` or
            `tasks` (lists of names) narrow what `capture_activations` or `score_items` does.

    Raises:
        KeyError: a rule that has no prediction.
    """
    if rule not in RULES:
        raise KeyError(f"no prediction for the rule {rule!r}; known: {', '.join(RULES)}")
    if rule in ON_GPU:
        return RULES[rule](study, on_gpu=on_gpu, **wildcards)
    return RULES[rule](study, **wildcards)


def stage_of(rule: str) -> str | None:
    """Return the stage that a rule belongs to; None for one that only names targets."""
    return next((stage for stage, rules in STAGES.items() if rule in rules), None)
