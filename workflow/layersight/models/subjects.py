"""Subjects: the models that a study measures, `base`, `aligned` and `<variant>/seed-<s>`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from layersight.models.deltas import apply_delta, load_connector
from layersight.models.device import limit_threads, torch_device, torch_dtype
from layersight.models.language import load_language_model
from layersight.models.vlm import VisionLanguageModel
from layersight.study import Study


@dataclass
class Subject:
    """A model that is measured, ready to run, without gradients."""

    name: str
    model: VisionLanguageModel
    tokenizer: PreTrainedTokenizerBase


def variant_and_seed(subject: str) -> tuple[str, int]:
    """Split a subject's name; `base` and `aligned` have the seed -1."""
    name, _, seed = subject.partition("/seed-")
    return name, int(seed) if seed else -1


def load_subject(study: Study, name: str, *, language_model: Path, stage: Path | None) -> Subject:
    """Load a subject in evaluation mode, frozen, on the study's device.

    Args:
        study: the study.
        name: the subject's name.
        language_model: folder of the base LLM.
        stage: folder of stage 1 (`aligned`) or of stage 2 (a variant); None for `base`.
    """
    limit_threads(study.compute.measuring_threads)
    base, tokenizer = load_language_model(
        language_model, dtype=torch_dtype(study), attention=study.evaluation.attention
    )
    tuned = base if stage is None else apply_delta(base, stage)
    connector = None if stage is None else load_connector(stage)
    model = VisionLanguageModel(tuned, connector)
    model.requires_grad_(False)
    return Subject(name, model.to(torch_device(study)).eval(), tokenizer)
