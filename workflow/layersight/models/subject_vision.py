"""The vision encoder of a stage that trains it, and the image features that it then has."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from layersight.models.deltas import FEATURES, apply_vision, has_vision
from layersight.models.stages import compute_features
from layersight.models.vision import load_efficientnet_lite0
from layersight.models.vision_tower import VisionTower
from layersight.seeds import derive_seed
from layersight.study import Study


def load_tower(study: Study, weights: Path | None) -> VisionTower:
    """Return the study's vision encoder as a tower, the same that `compute_features` runs.

    The generator of random numbers is left as it was.

    Args:
        study: the study.
        weights: packaged weights; None for random ones (tests).

    Raises:
        AssetError: the weights are not those of the encoder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(study.seed, "vision encoder"))
        encoder = load_efficientnet_lite0(weights)
    return VisionTower(encoder, study.backbone.vision_encoder.grid)


def subject_features(
    study: Study, folder: Path, *, images: Path, weights: Path | None
) -> Path | None:
    """Write the image features of a subject whose vision encoder learned, once.

    Args:
        study: the study.
        folder: the subject's, with `vision_encoder.safetensors`; `features.safetensors` appears
            there.
        images: table of pictures.
        weights: packaged weights of the study's encoder; None for random ones (tests).

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
        with tempfile.TemporaryDirectory() as scratch:
            whole = Path(scratch) / "encoder.safetensors"
            save_file({k: v.contiguous() for k, v in tower.encoder.state_dict().items()}, whole)
            compute_features(study, images=images, weights=whole, out=out)
    return out
