"""Preparing the backbone's parts, from files to files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from layersight.data.features import FeatureStore
from layersight.data.images import encoder_ready, flattened, mean_colour, read_picture
from layersight.data.schemas import CONVERSATIONS, IMAGES
from layersight.errors import DataError
from layersight.models import registry
from layersight.models.device import limit_threads, torch_device
from layersight.models.vision import (
    EfficientNetLite0,
    image_features,
    load_efficientnet_lite0,
)
from layersight.models.vision_tower import VisionTower
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.storage.tables import read_columns, read_table
from layersight.study import (
    FolderVisionEncoder,
    HubVisionEncoder,
    PackagedVisionEncoder,
    RandomLanguageModel,
    RandomVisionEncoder,
    Study,
)

_BATCH = 32
MEAN_COLOUR = (127, 127, 127)
"""What `layersight.models.vision.prepare_pixels` turns into zeros."""
Checkpoint = (HubVisionEncoder, FolderVisionEncoder)


def picture_side(study: Study) -> int:
    """Return the side of the pictures that the study's vision encoder reads, in pixels."""
    encoder = study.backbone.vision_encoder
    return encoder.sizes.size if isinstance(encoder, Checkpoint) else study.concepts.image_size


def padding_colour(study: Study) -> tuple[int, int, int]:
    """Return the colour that the study's vision encoder turns into zeros, or nearly."""
    encoder = study.backbone.vision_encoder
    if isinstance(encoder, Checkpoint):
        return mean_colour(encoder.sizes.mean)
    return MEAN_COLOUR


def load_tower(study: Study, weights: Path | None) -> VisionTower:
    """Return the study's vision encoder as a tower.

    The generator of random numbers is left as it was.

    Args:
        study: the study.
        weights: packaged weights, or the checkpoint's folder; None for random ones (tests).

    Raises:
        AssetError: the weights are not those of the encoder, or the checkpoint is another than the
            study says.
    """
    encoder = study.backbone.vision_encoder
    if not isinstance(encoder, Checkpoint):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(study.seed, "vision encoder"))
            return VisionTower(load_efficientnet_lite0(weights), encoder.grid)
    if weights is None:
        raise ValueError("a vision encoder from a hub or a folder needs its folder")
    from layersight.models.vision_transformer import load_transformer

    return VisionTower(load_transformer(encoder, weights))


def compute_features(
    study: Study,
    *,
    images: Path,
    weights: Path | None,
    out: Path,
    tower: VisionTower | None = None,
) -> None:
    """Run the frozen vision encoder on every picture and store its features.

    A picture that is no square is made one, as the study's `backbone.image_shape` says.

    Args:
        study: the study.
        images: table of pictures.
        weights: packaged weights, or the checkpoint's folder; None for random ones (tests).
        out: safetensors file.
        tower: the encoder, where some of it has learned; None loads it.

    Raises:
        DataError: a picture is missing, damaged or a square of another size than the study's, or
            occurs twice.
    """
    limit_threads(study.compute.training_threads)
    device = torch_device(study)
    tower = tower or load_tower(study, weights)
    rows = read_table(images, IMAGES).select(["image_id", "concept", "image"]).to_pylist()
    _check_pictures(images, rows)
    with Progress(len(rows), "image features: picture") as progress:

        def batches() -> Iterator[np.ndarray]:
            for start in range(0, len(rows), _BATCH):
                chosen = rows[start : start + _BATCH]
                yield np.stack([encoder_pixels(images, row, study) for row in chosen])
                progress.advance(len(chosen))

        if isinstance(tower.encoder, EfficientNetLite0) and tower.grid is not None:
            found = image_features(tower.encoder, batches(), tower.grid, device)
        else:
            found = _transformer_features(tower.to(device), batches(), device)
        features = torch.cat(list(found))
    finite = features.isfinite().flatten(1).all(1)
    if not finite.all():
        raise DataError(
            f"{images}: picture {rows[int(finite.long().argmin())]['image_id']}: its features are "
            f"not finite; are these the weights of the vision encoder ({weights})?"
        )
    FeatureStore([row["image_id"] for row in rows], features).save(out)


@torch.inference_mode()
def _transformer_features(
    tower: VisionTower, batches: Iterator[np.ndarray], device: torch.device
) -> Iterator[torch.Tensor]:
    for images in batches:
        yield tower(torch.from_numpy(images).to(device)).contiguous().cpu()


def vision_weights(study: Study, asset: Path | None) -> Path | None:
    """Return where the weights of the study's vision encoder are; None for random weights.

    Args:
        study: the study.
        asset: what the rules have of it: the marker in an unpacked package's folder (or that
            folder), or the checkpoint's folder.
    """
    encoder = study.backbone.vision_encoder
    if isinstance(encoder, RandomVisionEncoder):
        return None
    if asset is None:
        raise ValueError("this vision encoder needs its package's or checkpoint's folder")
    if isinstance(encoder, PackagedVisionEncoder):
        folder = asset if asset.is_dir() else asset.parent
        return folder / registry.VISION_ENCODERS[encoder.name].member
    return asset


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
        study: `concepts.image_size`, `backbone.vision_encoder` and `backbone.image_shape` are read.

    Raises:
        DataError: the picture is damaged, or one of a concept is of another size.
    """
    where = f"{images}: picture {row['image_id']}"
    size, side = study.concepts.image_size, picture_side(study)
    content = row["image"]["bytes"]
    if content is None:
        raise DataError(f"{where}: image.bytes is empty; expected a picture file")
    try:
        picture = flattened(read_picture(content))
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    width, height = picture.size
    if width != height or not row["concept"]:  # pictures of questions have sizes of their own
        shape = study.backbone.image_shape
        picture = encoder_ready(picture, side, shape, padding_colour(study))
    elif width != size:
        raise DataError(
            f"{where}: has {width} × {height} pixels, but concepts.image_size is {size}: expected "
            f"{size} × {size}"
        )
    elif side != size:
        picture = encoder_ready(picture, side, "square", padding_colour(study))
    return np.asarray(picture)
