"""Subjects: the models that a study measures, `base`, `aligned` and `<variant>/seed-<s>`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from layersight.errors import DataError
from layersight.models.deltas import (
    FEATURES,
    apply_delta,
    has_vision,
    load_connector,
    reads_text_only,
)
from layersight.models.device import limit_threads, torch_device
from layersight.models.quantised import load_base_of
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

    Its vision encoder is not loaded: `features_of` names the file that has its image features.

    Args:
        study: the study.
        name: the subject's name.
        language_model: folder of the base LLM.
        stage: folder of stage 1 (`aligned`) or of stage 2 (a variant); None for `base`.
    """
    limit_threads(study.compute.measuring_threads)
    base, tokenizer = load_base_of(
        study, language_model, stage, attention=study.evaluation.attention
    )
    tuned = base if stage is None else apply_delta(base, stage)
    connector = None if stage is None or reads_text_only(stage) else load_connector(stage)
    model = VisionLanguageModel(tuned, connector)
    model.requires_grad_(False)
    return Subject(name, model.to(torch_device(study)).eval(), tokenizer)


def features_of(stage: Path | None, default: Path) -> Path:
    """Return the file of image features that a subject reads.

    Args:
        stage: the subject's folder; None for `base`.
        default: the study's image features, of the encoder as it came.

    Raises:
        DataError: the subject's vision encoder learned, but its folder has no image features.
    """
    if stage is None or not has_vision(stage):
        return default
    own = stage / FEATURES
    if not own.is_file():
        raise DataError(
            f"{own}: no such file, but the subject's vision encoder learned and its image features "
            f"are not the study's; delete the folder and rerun"
        )
    return own
