"""Preparing the backbone's parts, from files to files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from layersight.data.features import FeatureStore
from layersight.data.images import encoder_ready, flattened, read_picture
from layersight.data.schemas import CONVERSATIONS, IMAGES
from layersight.errors import DataError
from layersight.models import registry
from layersight.models.device import limit_threads, torch_device
from layersight.models.vision import image_features, load_efficientnet_lite0
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.storage.tables import read_columns, read_table
from layersight.study import PackagedVisionEncoder, RandomLanguageModel, Study

_BATCH = 32
MEAN_COLOUR = (127, 127, 127)
"""What `layersight.models.vision.prepare_pixels` turns into zeros."""


def compute_features(study: Study, *, images: Path, weights: Path | None, out: Path) -> None:
    """Run the frozen vision encoder on every picture and store its features.

    A picture that is no square is made one, as the study's `backbone.image_shape` says.

    Args:
        study: the study.
        images: table of pictures.
        weights: packaged weights; None for random ones (tests).
        out: safetensors file.

    Raises:
        DataError: a picture is missing, damaged or a square of another size than the study's, or
            occurs twice.
    """
    limit_threads(study.compute.training_threads)
    torch.manual_seed(derive_seed(study.seed, "vision encoder"))
    model = load_efficientnet_lite0(weights)
    rows = read_table(images, IMAGES).select(["image_id", "image"]).to_pylist()
    _check_pictures(images, rows)
    with Progress(len(rows), "image features: picture") as progress:

        def batches() -> Iterator[np.ndarray]:
            for start in range(0, len(rows), _BATCH):
                chosen = rows[start : start + _BATCH]
                yield np.stack([encoder_pixels(images, row, study) for row in chosen])
                progress.advance(len(chosen))

        features = torch.cat(
            list(
                image_features(
                    model, batches(), study.backbone.vision_encoder.grid, torch_device(study)
                )
            )
        )
    finite = features.isfinite().flatten(1).all(1)
    if not finite.all():
        raise DataError(
            f"{images}: picture {rows[int(finite.long().argmin())]['image_id']}: its features are "
            f"not finite; are these the weights of the vision encoder ({weights})?"
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
    # Imported only here: the vision encoder needs no transformers, which takes seconds to import.
    from layersight.models.language import make_random

    settings = study.backbone.language_model
    if not isinstance(settings, RandomLanguageModel):
        raise ValueError("the study names a real language model")
    texts = [
        turn["value"]
        for path in tables
        for conversation in read_columns(path, CONVERSATIONS).column("conversations").to_pylist()
        for turn in conversation
    ]
    seed = derive_seed(study.seed, "models/random/language_model")
    make_random(settings, texts, seed, folder)


def _check_pictures(images: Path, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        raise DataError(f"{images}: has no rows")
    counts = Counter(row["image_id"] for row in rows)
    name, count = counts.most_common(1)[0]
    if count > 1:
        raise DataError(f"{images}: picture {name}: occurs {count} times; expected once")


def encoder_pixels(images: Path, row: dict[str, Any], study: Study) -> np.ndarray:
    """Return a picture of a table as the encoder reads it, `(side, side, 3)` uint8.

    Args:
        images: the table, for messages.
        row: of the table.
        study: `concepts.image_size` and `backbone.image_shape` are read.

    Raises:
        DataError: the picture is damaged or of another size.
    """
    where = f"{images}: picture {row['image_id']}"
    size = study.concepts.image_size
    content = row["image"]["bytes"]
    if content is None:
        raise DataError(f"{where}: image.bytes is empty; expected a picture file")
    try:
        picture = flattened(read_picture(content))
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    width, height = picture.size
    if width != height:
        picture = encoder_ready(picture, size, study.backbone.image_shape, MEAN_COLOUR)
    elif width != size:
        raise DataError(
            f"{where}: has {width} × {height} pixels, but concepts.image_size is {size}: expected "
            f"{size} × {size}"
        )
    return np.asarray(picture)
