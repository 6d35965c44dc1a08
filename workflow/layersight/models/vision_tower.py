"""A vision encoder that training can run, and of which a declared part learns."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from layersight.errors import TrainingError
from layersight.models.vision import EfficientNetLite0, prepare_pixels
from layersight.models.vision_transformer import TransformerEncoder


class VisionTower(nn.Module):
    """A vision encoder inside the model: from pictures to image features, with gradients.

    Batch normalisation keeps the statistics that the encoder came with, in training too: they are
    no parameters, a batch of a few pictures says little about them, and a subject would otherwise
    change with the size of its batches. Their weights and biases are parameters and may learn.
    There is no dropout.

    Args:
        encoder: the vision encoder; nothing of it learns until `learn` says so.
        grid: the feature map of a convolutional encoder is averaged to this side; None for a
            transformer, which gives features itself.

    Raises:
        ValueError: a grid for a transformer, or none for a convolutional encoder.
    """

    def __init__(
        self, encoder: EfficientNetLite0 | TransformerEncoder, grid: int | None = None
    ) -> None:
        super().__init__()
        if (grid is None) != isinstance(encoder, TransformerEncoder):
            raise ValueError("a grid belongs to a convolutional encoder, and only to it")
        self.encoder = encoder
        self.grid = grid
        self.learn("none")
        self.eval()

    def train(self, mode: bool = True) -> VisionTower:
        """Set the mode of the tower; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def learn(self, what: Literal["none", "all"] | int) -> None:
        """Make exactly the declared parameters learn.

        Args:
            what: nothing; everything that image features pass through (of EfficientNet, all but
                the classifier `_fc`); or the last so many blocks, and what follows them (of
                EfficientNet, the head's convolution and its norm).

        Raises:
            TrainingError: the encoder has fewer blocks.
        """
        self.requires_grad_(False)
        if what == "none":
            return
        try:
            modules = self.encoder.read_modules(None if what == "all" else what)
        except ValueError as error:
            raise TrainingError(f"train_vision: {error}") from None
        for module in modules:
            module.requires_grad_(True)

    def learning(self) -> dict[str, nn.Parameter]:
        """Return the parameters that learn, by their name in the encoder."""
        return {name: p for name, p in self.encoder.named_parameters() if p.requires_grad}

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return image features `(n, tokens, channels)`, row by row of the picture.

        Args:
            pixels: uint8 RGB images `(n, side, side, 3)`.
        """
        if self.grid is None or isinstance(self.encoder, TransformerEncoder):
            features: torch.Tensor = self.encoder(pixels)
            return features
        maps = self.encoder(prepare_pixels(pixels))
        rows, columns = (_averages(size, self.grid).to(maps) for size in maps.shape[-2:])
        # The same means as adaptive average pooling, whose backward pass on a GPU adds up in any
        # order; matrix products do not.
        return torch.einsum("gh,nchw,kw->ngkc", rows, maps, columns).flatten(1, 2)


def _averages(size: int, grid: int) -> torch.Tensor:
    """Return the `(grid, size)` means of adaptive average pooling along one side."""
    weights = torch.zeros(grid, size)
    for cell in range(grid):
        start, stop = cell * size // grid, -(-(cell + 1) * size // grid)
        weights[cell, start:stop] = 1.0 / (stop - start)
    return weights
