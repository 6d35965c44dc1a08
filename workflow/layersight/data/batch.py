"""A batch of token sequences with the image features they need."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass
class Batch:
    """Token sequences of one batch, padded to one length.

    Attributes:
        input_ids: `(rows, length)` int64; IMAGE_TOKEN where image features go.
        attention_mask: `(rows, length)` int64; 0 on padding.
        features: `(images, tokens, channels)` float, in the order of the rows; None without images.
        labels: `(rows, length)` int64; -100 where no loss is taken; None outside training.
        roles: `(rows, length)` int8, see `layersight.data.conversation.Role`.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    features: torch.Tensor | None
    roles: torch.Tensor
    labels: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            features=None if self.features is None else self.features.to(device),
            roles=self.roles.to(device),
            labels=None if self.labels is None else self.labels.to(device),
        )

    @property
    def positions(self) -> torch.Tensor:
        """Position of every token, `(rows, length)`, counted from the mask."""
        return (self.attention_mask.cumsum(-1) - 1).clamp(min=0)
