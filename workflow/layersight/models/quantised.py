"""Base language models that a tuning method wants quantised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from layersight.errors import DataError
from layersight.models.device import torch_device, torch_dtype
from layersight.models.language import load_language_model
from layersight.study import Study
from layersight.tuning import methods

NOTE = "quantised_base.json"
"""In a stage's folder: the method, with its options, that the base was quantised for."""


def load_base(
    study: Study, folder: Path, method: str, options: Any, *, attention: str = "sdpa"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base language model as a method takes it.

    Args:
        study: gives device and precision.
        folder: of the base language model.
        method: name of the method.
        options: its options.
        attention: implementation of attention.

    Raises:
        TrainingError: the model cannot be quantised here.
        AssetError: the folder holds no loadable model.
    """
    dtype = torch_dtype(study)
    wanted = methods.quantization(method, options, dtype=dtype, device=torch_device(study))
    return load_language_model(folder, dtype=dtype, attention=attention, quantization=wanted)


def note_quantisation(study: Study, variant: str, folder: Path) -> None:
    """Write into a stage's folder what its base was quantised for; nothing if it was not."""
    settings = study.variants[variant]
    if hasattr(methods.method(settings.method), "quantization"):
        content = {"method": settings.method, "options": settings.options}
        (folder / NOTE).write_text(json.dumps(content, sort_keys=True), encoding="utf-8")


def load_base_of(
    study: Study, folder: Path, stage: Path | None, *, attention: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the base language model as a subject's stage had it.

    Args:
        study: gives device and precision.
        folder: of the base language model.
        stage: the subject's folder; None for `base`.
        attention: implementation of attention.

    Raises:
        DataError: the stage's note is not readable.
        TrainingError, AssetError: as `load_base`.
    """
    note = None if stage is None else stage / NOTE
    if note is None or not note.is_file():
        return load_language_model(folder, dtype=torch_dtype(study), attention=attention)
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        chosen = methods.method(content["method"])
        options = chosen.Options.model_validate_json(json.dumps(content["options"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{note}: not readable ({error}); delete the folder and rerun") from None
    return load_base(study, folder, content["method"], options, attention=attention)
