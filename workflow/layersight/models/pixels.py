"""The pictures themselves, for training that runs the vision encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from layersight.data.images import encoder_ready
from layersight.data.llava_json import PictureFolder
from layersight.data.schemas import IMAGES
from layersight.errors import DataError
from layersight.models.stages import encoder_pixels, padding_colour, picture_side
from layersight.storage.tables import read_table
from layersight.study import Study


class FolderPixels:
    """Pictures in a folder, decoded and brought into the encoder's shape when a batch asks.

    Args:
        study: `concepts.image_size`, `backbone.image_shape` and `backbone.vision_encoder` are read.
        folder: the folder.

    Raises:
        DataError: no such folder.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.tokens = study.backbone.vision_encoder.tokens
        """Features of one picture."""
        self._size = picture_side(study)
        self._colour = padding_colour(study)
        self._shape = study.backbone.image_shape
        self._folder = PictureFolder(folder)

    def take(self, image_ids: Sequence[str]) -> torch.Tensor:
        """Return pictures as the encoder reads them, `(len(image_ids), side, side, 3)` uint8.

        Raises:
            DataError: a picture is missing or damaged.
        """
        ready = [
            encoder_ready(self._folder.open(image), self._size, self._shape, self._colour)
            for image in image_ids
        ]
        return torch.from_numpy(np.stack([np.asarray(picture) for picture in ready]))


class PixelStore:
    """The pictures of a study; kept as files are, and decoded when a batch asks for them.

    Args:
        study: the study.
        images: table of pictures.
    """

    def __init__(self, study: Study, images: Path) -> None:
        self.tokens = study.backbone.vision_encoder.tokens
        """Features of one picture."""
        self._study = study
        self._images = images
        table = read_table(images, IMAGES).select(["image_id", "concept", "image"]).to_pylist()
        self._rows = {row["image_id"]: row for row in table}

    def take(self, image_ids: Sequence[str]) -> torch.Tensor:
        """Return pictures as the encoder reads them, `(len(image_ids), side, side, 3)` uint8.

        Raises:
            DataError: a picture is missing, damaged or of another size than the study's.
        """
        missing = sorted({image for image in image_ids if image not in self._rows})
        if missing:
            raise DataError(f"{self._images}: has no picture {', '.join(missing[:5])}")
        decoded = [
            encoder_pixels(self._images, self._rows[image], self._study) for image in image_ids
        ]
        return torch.from_numpy(np.stack(decoded))
