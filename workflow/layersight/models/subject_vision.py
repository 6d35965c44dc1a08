"""The vision encoder of a stage that trains it, and the image features that it then has."""

from __future__ import annotations

from pathlib import Path

from layersight.models.deltas import FEATURES, apply_vision, has_vision
from layersight.models.stages import compute_features, load_tower
from layersight.study import Study


def subject_features(
    study: Study, folder: Path, *, images: Path, weights: Path | None
) -> Path | None:
    """Write the image features of a subject whose vision encoder learned, once.

    Args:
        study: the study.
        folder: the subject's, with `vision_encoder.safetensors`; `features.safetensors` appears
            there.
        images: table of pictures.
        weights: packaged weights or checkpoint of the study's encoder; None for random ones
            (tests).

    Returns:
        The file of features; None if the encoder did not learn: the study's features hold.

    Raises:
        DataError: a picture or the stored encoder is not what it should be.
    """
    if not has_vision(folder):
        return None
    out = folder / FEATURES
    if not out.is_file():
        tower = apply_vision(load_tower(study, weights), folder)
        compute_features(study, images=images, weights=weights, out=out, tower=tower)
    return out
