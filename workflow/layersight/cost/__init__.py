"""What a run will take: seconds, memory and disk of every job, known from the study alone.

One model for all steps: parameters × tokens for time, parameters and tokens × bytes for memory and
disk, with constants that were measured on the study `mini` (`constants`). `tests/unit/test_cost.py`
holds the predictions against such a measurement.
"""

from layersight.cost.constants import LOAD_MB
from layersight.cost.downloads import downloads, missing, missing_questions
from layersight.cost.downloads import render as render_downloads
from layersight.cost.estimate import Cost
from layersight.cost.rules import ON_GPU, RULES, STAGES, predict, stage_of
from layersight.cost.sizes import parameters
from layersight.cost.steps import activations, benchmarks, features, patching
from layersight.cost.summary import (
    Job,
    StageRow,
    check_quota,
    check_space,
    render,
    summarise,
    total,
)
from layersight.cost.training import align, tune

__all__ = [
    "LOAD_MB",
    "ON_GPU",
    "RULES",
    "STAGES",
    "Cost",
    "Job",
    "StageRow",
    "activations",
    "align",
    "benchmarks",
    "check_quota",
    "check_space",
    "downloads",
    "features",
    "missing",
    "missing_questions",
    "parameters",
    "patching",
    "predict",
    "render",
    "render_downloads",
    "stage_of",
    "summarise",
    "total",
    "tune",
]
