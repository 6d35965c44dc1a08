"""What a step will take: one model for time and memory, in parameters, tokens and bytes.

Used for the resources that rules ask for and for the remaining time in the terminal. Speeds are
those of two ordinary CPU cores in float32; on other machines the ratio between steps still holds,
which is all that the remaining time needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from layersight.interventions.windows import windows
from layersight.models import registry
from layersight.study import PackagedLanguageModel, Study

FLOPS = 1.2e11
"""Floating-point operations per second of a forward or backward pass, two cores, float32."""
START_SECONDS = 8.0
"""Starting Python and importing the numeric stack."""
LOAD_MB = 900.0
"""Resident size of the numeric stack itself."""
PROMPT_TOKENS = 30
"""Tokens of a prompt besides the image."""


@dataclass(frozen=True)
class Cost:
    """Prediction for one job.

    Attributes:
        seconds: wall time on the reference machine.
        memory_mb: peak resident memory, in MB.
    """

    seconds: float
    memory_mb: float


def parameters(study: Study) -> int:
    """Return the number of parameters of the language model."""
    model = study.backbone.language_model
    if isinstance(model, PackagedLanguageModel):
        return registry.LANGUAGE_MODELS[model.name].parameters
    return model.layers * model.width * (4 * model.width + 3 * model.intermediate)


def sequence(study: Study) -> int:
    """Return the tokens of a typical visual prompt."""
    return int(study.backbone.vision_encoder.grid**2) + PROMPT_TOKENS


def align(study: Study) -> Cost:
    """Stage 1: forward, and backward through frozen blocks."""
    tokens = study.align.steps * study.align.batch_size * (sequence(study) - 10)
    return _training(study, tokens, 4, study.align.batch_size, weights=1)


def tune(study: Study) -> Cost:
    """Stage 2, at most: every parameter learns."""
    tokens = study.tuning.steps * study.tuning.batch_size * sequence(study)
    return _training(study, tokens, 6, study.tuning.batch_size, weights=4)


def activations(study: Study) -> Cost:
    """Forward passes over the probe sets, and the vectors held for one part."""
    tokens = study.probes.items * (2 * sequence(study) + 2 * PROMPT_TOKENS // 2)
    rows = study.activations.rows_per_part + study.evaluation.batch_size * 3
    held = rows * len(study.layers) * 4 * _width(study) * 2 / 1e6
    return _forward(study, tokens, extra_mb=held)


def benchmarks(study: Study) -> Cost:
    """Forward passes over the benchmark items."""
    counts = study.benchmarks
    items = 5 * counts.kind + 9 * counts.presence + 3 * counts.naming
    return _forward(study, items * sequence(study) * 1.3)


def patching(study: Study) -> Cost:
    """Block evaluations of the prefix tree, for one variant and seed."""
    layers = study.backbone.language_model.layers
    blocks = 4.0 * layers
    for sweep in study.patching.sweeps:
        for start, _ in windows(sweep.kind, layers, sweep.stride, sweep.width):
            blocks += layers - start if sweep.kind == "sliding" else layers / 2
    tokens = study.patching.items * sequence(study) * len(study.patching.directions)
    return _forward(study, tokens * blocks / layers, models=2)


def features(study: Study, images: int) -> Cost:
    """The vision encoder on every picture."""
    pixels = study.concepts.image_size**2
    return Cost(START_SECONDS + images * pixels * 1.4e-6 / 2, LOAD_MB + images * 0.6)


def _training(study: Study, tokens: float, passes: int, batch: int, weights: int) -> Cost:
    count = parameters(study)
    seconds = START_SECONDS + passes * count * tokens / FLOPS
    # About 40 numbers per token, layer and unit of width are kept for the backward pass.
    kept = batch * sequence(study) * len(study.layers) * _width(study) * 40 * 4
    return Cost(seconds, LOAD_MB + (count * 4 * (weights + 1) + kept) / 1e6)


def _forward(study: Study, tokens: float, *, models: int = 1, extra_mb: float = 0.0) -> Cost:
    count = parameters(study)
    return Cost(
        START_SECONDS + 2 * count * tokens / FLOPS,
        LOAD_MB + count * 4 * (models + 0.5) / 1e6 + extra_mb + 400,
    )


def _width(study: Study) -> int:
    model = study.backbone.language_model
    if isinstance(model, PackagedLanguageModel):
        return registry.LANGUAGE_MODELS[model.name].width
    return model.width
