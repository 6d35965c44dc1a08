"""Writes a subject as a LLaVA checkpoint that transformers loads.

python -m layersight.models.export config/studies/x.yaml full/seed-0 OUT
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from transformers import AutoImageProcessor

from layersight import artefacts
from layersight.errors import DataError, UserError
from layersight.models.backbones import checkpoint_folder
from layersight.models.deltas import apply_vision
from layersight.models.llava_hf import save_llava
from layersight.models.stages import load_tower
from layersight.models.subjects import load_subject
from layersight.models.vision_transformer import load_vision_model
from layersight.models.vlm import VisionLanguageModel
from layersight.storage.atomic import atomic_folder
from layersight.study import FolderVisionEncoder, HubVisionEncoder, RandomLanguageModel, Study


def export(
    study: Study, subject: str, *, language_model: Path, stage: Path, vision: Path, out: Path
) -> None:
    """Write a subject in the form of `llava-hf`, adapters merged; the folder appears whole.

    Args:
        study: the study.
        subject: `aligned` or `<variant>/seed-<s>`.
        language_model: folder of the base LLM.
        stage: the subject's folder.
        vision: folder of the vision encoder's checkpoint.
        out: folder to write.

    Raises:
        DataError: the subject is not one that a LLaVA checkpoint has a place for.
    """
    encoder = study.backbone.vision_encoder
    if not isinstance(encoder, HubVisionEncoder | FolderVisionEncoder):
        raise DataError(
            "backbone.vision_encoder: a LLaVA checkpoint takes CLIP, SigLIP or DINOv2 from a hub "
            "or a folder"
        )
    loaded = load_subject(study, subject, language_model=language_model, stage=stage)
    tower = apply_vision(load_tower(study, vision), stage)
    model = VisionLanguageModel(
        _merged(subject, loaded.model.language_model), loaded.model.connector, tower
    )
    whole, _ = load_vision_model(vision)
    with atomic_folder(out) as beside:
        save_llava(
            model.eval().cpu(),
            loaded.tokenizer,
            whole,
            beside,
            layer=encoder.select_layer,
            feature=encoder.select_feature,
            image_processor=AutoImageProcessor.from_pretrained(vision, local_files_only=True),
        )


def _merged(subject: str, language_model: Any) -> Any:
    """Return the language model with an adapter's changes in its own weights."""
    if not hasattr(language_model, "peft_config"):
        return language_model
    try:
        return language_model.merge_and_unload()
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise DataError(
            f"{subject}: its adapter cannot be merged into the weights ({error}), and a LLaVA "
            f"checkpoint has no place for it"
        ) from None


def main() -> None:
    """Export one subject of a study that has run."""
    from layersight.data.packages import cache_folder
    from layersight.study_file import load_study

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", type=Path, help="the study's file")
    parser.add_argument("subject", help="aligned, or <variant>/seed-<s>")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    try:
        study = load_study(asked.study)
        results = Path(artefacts.RESULTS.format(study=study.name))
        aligned = asked.subject == "aligned"
        place = artefacts.ALIGNED if aligned else artefacts.SUBJECT_MODEL
        cache, parts = cache_folder(study), study.backbone
        model = parts.language_model
        if model.source == "package":
            base = cache / "models" / model.name
        elif isinstance(model, RandomLanguageModel):
            base = results / artefacts.RANDOM_LANGUAGE_MODEL
        else:
            base = checkpoint_folder(model.model_dump(), cache)
        encoder = parts.vision_encoder.model_dump()
        export(
            study,
            asked.subject,
            language_model=base,
            stage=results / place.format(subject=asked.subject),
            vision=checkpoint_folder(encoder, cache) if "shape" in encoder else Path(),
            out=asked.out,
        )
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
