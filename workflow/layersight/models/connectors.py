"""Connectors: from image features to the language model's input space."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn


class Connector(nn.Module):
    """Two linear layers with GELU between them (Liu et al. 2023, LLaVA-1.5, `mlp2x_gelu`).

    Features are first standardised with fixed statistics, since those of a convolutional network
    are sparse and of very different scale from channel to channel. All other connectors derive from
    this one and share the statistics; they replace `_build` and `_map`.

    Args:
        channels: width of the image features.
        width: width of the language model.
        settings: of the kind, beyond its widths; kept with the weights.
    """

    kind = "mlp2x_gelu"
    """As a study names it."""
    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, channels: int, width: int, **settings: Any) -> None:
        super().__init__()
        self.channels = channels
        self.width = width
        self.settings = settings
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))
        self._build(**settings)

    def _build(self) -> None:
        self.first = nn.Linear(self.channels, self.width)
        self.second = nn.Linear(self.width, self.width)

    def _map(self, features: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self.second(nn.functional.gelu(self.first(features)))
        return embeddings

    def tokens(self, features: int) -> int:
        """Return how many image tokens a picture takes that has so many features."""
        return features

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
        """Map features `(pictures, tokens, channels)` to embeddings `(pictures, tokens', width)`.

        `tokens'` is `self.tokens(tokens)`.
        """
        return self._map((features - self.mean) / self.scale)


class Identity(Connector):
    """The features themselves, standardised or not; nothing learns.

    Raises:
        ValueError: the features have another width than the language model.
    """

    kind = "identity"

    def _build(self) -> None:
        if self.channels != self.width:
            raise ValueError(
                f"the identity carries no {self.channels} channels into a language model of width "
                f"{self.width}"
            )

    def _map(self, features: torch.Tensor) -> torch.Tensor:
        return features


class Linear(Connector):
    """One linear layer (Liu et al. 2023, LLaVA)."""

    kind = "linear"

    def _build(self) -> None:
        self.first = nn.Linear(self.channels, self.width)

    def _map(self, features: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self.first(features)
        return embeddings


class Mlp(Connector):
    """So many linear layers with GELU between them (LLaVA-1.5's `mlpNx_gelu`)."""

    kind = "mlp"

    def _build(self, layers: int = 2) -> None:
        widths = [self.channels] + [self.width] * layers
        self.linears = nn.ModuleList(
            nn.Linear(inside, outside) for inside, outside in pairwise(widths)
        )

    def _map(self, features: torch.Tensor) -> torch.Tensor:
        for index, linear in enumerate(self.linears):
            features = linear(nn.functional.gelu(features) if index else features)
        return features


class QFormer(Connector):
    """Learned queries that read the features by cross-attention, then a linear layer.

    Source: Li et al. 2023 (BLIP-2); transformers' implementation, without text.
    """

    kind = "qformer"

    def _build(self, queries: int = 32, layers: int = 2, heads: int = 8, size: int = 512) -> None:
        from transformers import Blip2QFormerConfig, Blip2QFormerModel

        config = Blip2QFormerConfig(
            hidden_size=size,
            intermediate_size=4 * size,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            encoder_hidden_size=self.channels,
            # Text has its own feed-forward layers in BLIP-2; there is none here.
            use_qformer_text_input=False,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.queries = nn.Parameter(torch.randn(1, queries, size) * 0.02)
        self.former = Blip2QFormerModel(config)
        self.last = nn.Linear(size, self.width)

    def tokens(self, features: int) -> int:
        """Return the number of queries."""
        return int(self.queries.shape[1])

    def _map(self, features: torch.Tensor) -> torch.Tensor:
        read = self.former(
            query_embeds=self.queries.expand(features.shape[0], -1, -1),
            encoder_hidden_states=features,
        )
        embeddings: torch.Tensor = self.last(read.last_hidden_state)
        return embeddings


class Resampler(Connector):
    """Learned latents that read features and themselves, block by block (Perceiver resampler).

    Source: Alayrac et al. 2022 (Flamingo); transformers' implementation (IDEFICS), between a
    linear layer that brings the features to its size and one that brings latents to the language
    model's width.
    """

    kind = "resampler"

    def _build(self, queries: int = 32, layers: int = 2, heads: int = 8, size: int = 512) -> None:
        from transformers import IdeficsConfig
        from transformers.models.idefics.perceiver import IdeficsPerceiverResampler

        config = IdeficsConfig(vision_config={"embed_dim": size}, use_resampler=True)
        self.first = nn.Linear(self.channels, size)
        self.perceiver = IdeficsPerceiverResampler(
            config, size, layers, heads, size // heads, queries
        )
        # Drawn with deviation 1 there, which is far above what the language model reads.
        with torch.no_grad():
            self.perceiver.latents.mul_(0.02)
        self.last = nn.Linear(size, self.width)

    def tokens(self, features: int) -> int:
        """Return the number of latents."""
        return int(self.perceiver.latents.shape[0])

    def _map(self, features: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self.last(self.perceiver(self.first(features)))
        return embeddings


KINDS: dict[str, type[Connector]] = {
    kind.kind: kind for kind in (Connector, Identity, Linear, Mlp, QFormer, Resampler)
}
"""Connectors by the name that a study gives them."""


def make_connector(kind: str, channels: int, width: int, **settings: Any) -> Connector:
    """Return a connector with random weights.

    Args:
        kind: one of `KINDS`.
        channels: width of the image features.
        width: width of the language model.
        settings: of the kind: `layers`; for `qformer` and `resampler` also `queries`, `heads` and
            `size`.

    Raises:
        ValueError: the kind does not fit these widths.
    """
    return KINDS[kind](channels, width, **settings)
