"""Subjects and connectors that others have trained, from files to the folders of our own stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from layersight.errors import AssetError
from layersight.models.connectors import Connector
from layersight.models.deltas import VISION, save_connector
from layersight.models.device import limit_threads
from layersight.models.released import check_connector, check_variant
from layersight.models.released_weights import differing_vision, read_connector, write_difference
from layersight.models.stages import load_tower
from layersight.models.subject_vision import subject_features
from layersight.storage.atomic import atomic_folder
from layersight.storage.manifest import Stopwatch, write_manifest
from layersight.storage.tables import write_table
from layersight.study import Study
from layersight.tuning.log import LOG, SPEED, TIMES, TRAINING


def take_connector(study: Study, *, checkpoint: Path, out: Path) -> None:
    """Write a released connector as stage 1 writes one that it trained.

    Args:
        study: `align.released` and `backbone` are read.
        checkpoint: folder of the connector's checkpoint.
        out: folder for `connector.safetensors`, an empty training log and `manifest.json`.

    Raises:
        AssetError: the connector does not fit the study's backbone.
    """
    watch = Stopwatch()
    released, asked = study.align.released, study.backbone.connector
    if released is None:
        raise ValueError("the study trains its connector")
    _checked(check_connector, study, checkpoint)
    connector = read_connector(
        checkpoint,
        asked.kind,
        study.backbone.vision_encoder.channels,
        study.backbone.language_model.width,
        asked.settings,
    )
    with atomic_folder(out) as beside:
        save_connector(connector, beside)
        _write_record(
            "aligned", watch, beside, {"align": study.align.model_dump()}, released=released.words
        )


def take_released(
    study: Study,
    *,
    variant: str,
    language_model: Path,
    checkpoint: Path,
    out: Path,
    images: Path | None = None,
    vision_weights: Path | None = None,
) -> None:
    """Write a released model as stage 2 writes a subject that it trained.

    Args:
        study: the study.
        variant: name of the variant.
        language_model: folder of the base LLM.
        checkpoint: folder of the released model.
        out: folder for the tensors of the language model that differ from the base's, the
            connector, an empty training log and `manifest.json`; and the vision encoder and its
            features, if it is not the study's.
        images: table of pictures; read if the vision encoder is not the study's.
        vision_weights: of the study's vision encoder; needed if the subject reads pictures.

    Raises:
        AssetError: the released model cannot be compared with the study's backbone.
        DataError: a picture is not what it should be.
    """
    watch = Stopwatch()
    settings = study.variants[variant]
    if settings.released is None:
        raise ValueError(f"the variant {variant} is trained here")
    limit_threads(study.compute.training_threads)
    _checked(check_variant, study, variant, checkpoint)
    pictures = settings.reads_pictures
    connector: Connector | None = None
    vision: dict[str, torch.Tensor] = {}
    if pictures:
        channels = study.backbone.vision_encoder.channels
        connector = read_connector(
            checkpoint, "mlp2x_gelu", channels, study.backbone.language_model.width, {}
        )
        vision = differing_vision(load_tower(study, vision_weights), checkpoint)
    with atomic_folder(out) as beside:
        difference = write_difference(language_model, checkpoint, beside)
        if connector is not None:
            save_connector(connector, beside)
        if vision:
            save_file(vision, beside / VISION)
        _write_record(
            f"{variant}/seed-0",
            watch,
            beside,
            {"variant": settings.model_dump()},
            released=settings.released.words,
            reads="pictures and text" if pictures else "text",
            trainable_language_model=difference.stored,
            trainable_vision=sum(tensor.numel() for tensor in vision.values()),
            differing=difference.differing,
            vocabulary=difference.vocabulary,
        )
        if vision:
            if images is None:
                raise ValueError("a vision encoder other than the study's needs the pictures")
            # No GPU is asked for: the job takes one where it finds one.
            compute = study.compute.model_copy(update={"device": "auto"})
            anywhere = study.model_copy(update={"compute": compute})
            subject_features(anywhere, beside, images=images, weights=vision_weights)


def _checked(check: Any, *arguments: Any) -> None:
    """Run a check of a study file, whose messages are for its loading, on what is fetched now."""
    try:
        check(*arguments)
    except ValueError as error:
        raise AssetError(str(error)) from None


def _write_record(
    subject: str, watch: Stopwatch, folder: Path, settings: dict[str, Any], **facts: Any
) -> None:
    write_table(folder / LOG, [], TRAINING)
    write_table(folder / TIMES, [], SPEED)
    write_manifest(
        folder / "manifest.json",
        settings=settings,
        seed=None,
        device="cpu",
        stopwatch=watch,
        subject=subject,
        **facts,
    )
