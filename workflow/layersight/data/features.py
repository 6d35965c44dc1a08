"""Image features of the frozen vision encoder, computed once and read by every later step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from layersight.errors import DataError
from layersight.storage.atomic import atomic_file


class FeatureStore:
    """Features of all pictures of a study.

    Attributes:
        features: `(images, tokens, channels)` float32.
    """

    def __init__(self, image_ids: Sequence[str], features: torch.Tensor) -> None:
        self.features = features
        self._row = {image_id: row for row, image_id in enumerate(image_ids)}

    @property
    def tokens(self) -> int:
        """Image tokens of one picture."""
        return int(self.features.shape[1])

    @property
    def channels(self) -> int:
        """Width of a feature."""
        return int(self.features.shape[2])

    def take(self, image_ids: Sequence[str]) -> torch.Tensor:
        """Return the features of some pictures, `(len(image_ids), tokens, channels)`.

        Raises:
            DataError: a picture that has no features.
        """
        missing = sorted({image for image in image_ids if image not in self._row})
        if missing:
            raise DataError(f"no image features for {', '.join(missing[:5])}; rerun `features`")
        return self.features[[self._row[image] for image in image_ids]]

    @classmethod
    def of(cls, path: Path | None) -> FeatureStore:
        """Read a store; None gives one without pictures, for a subject that reads text only."""
        return cls([], torch.zeros(0, 0, 0)) if path is None else cls.load(path)

    @classmethod
    def load(cls, path: Path) -> FeatureStore:
        """Read a store.

        Raises:
            DataError: missing or not a readable safetensors file.
        """
        try:
            with safe_open(path, framework="pt") as file:
                ids = json.loads(file.metadata()["image_ids"])
                features = file.get_tensor("features")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path}: not readable image features ({error}); delete it and rerun `features`"
            ) from None
        if features.ndim != 3 or len(ids) != len(features):
            raise DataError(
                f"{path}: features of the shape {tuple(features.shape)} for {len(ids)} pictures; "
                f"expected (pictures, tokens, channels)"
            )
        return cls(ids, features)

    def save(self, path: Path) -> None:
        """Write the store atomically."""
        with atomic_file(path) as beside:
            save_file(
                {"features": self.features.contiguous()},
                beside,
                metadata={"image_ids": json.dumps(list(self._row))},
            )
