"""Preparing the backbone's parts, from files to files."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from layersight.data.features import FeatureStore
from layersight.errors import DataError
from layersight.models import registry
from layersight.models.language import make_random
from layersight.models.subjects import limit_threads, torch_device
from layersight.models.vision import image_features, load_efficientnet_lite0
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.storage.tables import read_table
from layersight.study import PackagedVisionEncoder, RandomLanguageModel, Study

_BATCH = 32


def compute_features(study: Study, *, images: Path, weights: Path | None, out: Path) -> None:
    """Run the frozen vision encoder on every picture and store its features.

    Args:
        study: the study.
        images: table of pictures.
        weights: packaged weights; None for random ones (tests).
        out: safetensors file.
    """
    limit_threads(study.compute.training_threads)
    torch.manual_seed(derive_seed(study.seed, "vision encoder"))
    model = load_efficientnet_lite0(weights)
    table = read_table(images).select(["image_id", "image"])
    rows = table.to_pylist()
    with Progress(len(rows), "image features: picture") as progress:

        def batches() -> Iterator[np.ndarray]:
            for start in range(0, len(rows), _BATCH):
                chosen = rows[start : start + _BATCH]
                yield np.stack([_pixels(row, study.concepts.image_size) for row in chosen])
                progress.advance(len(chosen))

        features = torch.cat(
            list(
                image_features(
                    model, batches(), study.backbone.vision_encoder.grid, torch_device(study)
                )
            )
        )
    FeatureStore([row["image_id"] for row in rows], features).save(out)


def vision_weights(study: Study, package: Path | None) -> Path | None:
    """Return the weights' file of the study's vision encoder; None for random weights.

    Args:
        study: the study.
        package: folder of the unpacked package.
    """
    encoder = study.backbone.vision_encoder
    if not isinstance(encoder, PackagedVisionEncoder):
        return None
    if package is None:
        raise ValueError("a packaged vision encoder needs its package's folder")
    return package / registry.VISION_ENCODERS[encoder.name].member


def make_random_language_model(study: Study, *, tables: Sequence[Path], folder: Path) -> None:
    """Write the tiny random language model of a test study; its tokenizer learns from `tables`."""
    settings = study.backbone.language_model
    if not isinstance(settings, RandomLanguageModel):
        raise ValueError("the study names a real language model")
    texts = [
        turn["value"]
        for path in tables
        for conversation in read_table(path).column("conversations").to_pylist()
        for turn in conversation
    ]
    seed = derive_seed(study.seed, "models/random/language_model")
    make_random(settings, texts, seed, folder)


def _pixels(row: dict[str, object], size: int) -> np.ndarray:
    image = row["image"]
    assert isinstance(image, dict)
    try:
        with Image.open(io.BytesIO(image["bytes"])) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise DataError(f"picture {row['image_id']}: not readable ({error})") from None
    if pixels.shape != (size, size, 3):
        raise DataError(
            f"picture {row['image_id']}: has the shape {pixels.shape}, expected ({size}, {size}, 3)"
        )
    return pixels
