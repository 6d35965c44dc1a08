"""Connectors: from image features to the language model's input space."""

from __future__ import annotations

import torch
from torch import nn


class Connector(nn.Module):
    """Two linear layers with GELU between them (Liu et al. 2023, LLaVA-1.5, `mlp2x_gelu`).

    Features are first standardised with fixed statistics, since those of a convolutional network
    are sparse and of very different scale from channel to channel.

    Args:
        channels: width of the image features.
        width: width of the language model.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self.first = nn.Linear(channels, width)
        self.second = nn.Linear(width, width)

    @torch.no_grad()
    def fit_statistics(self, features: torch.Tensor) -> None:
        """Set the fixed statistics from training features `(n, tokens, channels)`."""
        flat = features.reshape(-1, features.shape[-1]).double()
        self.set_statistics(flat.mean(0), flat.std(0))

    @torch.no_grad()
    def set_statistics(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        """Set the fixed statistics, `(channels,)` each."""
        self.mean.copy_(mean)
        # A channel that never varies carries nothing; leave its scale alone.
        self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features `(..., tokens, channels)` to embeddings `(..., tokens, width)`."""
        standardised = (features - self.mean) / self.scale
        embeddings: torch.Tensor = self.second(nn.functional.gelu(self.first(standardised)))
        return embeddings
