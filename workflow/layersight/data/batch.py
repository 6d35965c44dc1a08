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
        roles: `(rows, length)` int8, see `layersight.data.conversation.Role`.
        labels: `(rows, length)` int64; -100 where no loss is taken; None outside training.
        segments: `(rows, length)` int64; which conversation of its row a token belongs to, counted
            from 1, and 0 on padding; None where a row is one conversation.
        pixels: `(images, side, side, 3)` uint8, in the order of the rows: the pictures, where the
            model computes their features itself; None where `features` has them.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    features: torch.Tensor | None
    roles: torch.Tensor
    labels: torch.Tensor | None = None
    segments: torch.Tensor | None = None
    pixels: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            features=None if self.features is None else self.features.to(device),
            roles=self.roles.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            pixels=None if self.pixels is None else self.pixels.to(device),
            segments=None if self.segments is None else self.segments.to(device),
        )

    @property
    def positions(self) -> torch.Tensor:
        """Position of every token in its conversation, `(rows, length)`, counted from the mask."""
        return (self.running_count(self.attention_mask) - 1).clamp(min=0)

    def attention(self, dtype: torch.dtype) -> torch.Tensor:
        """Return what a language model takes as its attention mask.

        Args:
            dtype: the model's.

        Returns:
            The mask of the padding, `(rows, length)`; of packed rows what is added to the attention
            scores, `(rows, 1, length, length)`: 0 from a token to itself and to earlier ones of its
            own conversation, the least number elsewhere.
        """
        if self.segments is None:
            return self.attention_mask
        length = self.segments.shape[1]
        # Padding sees earlier padding: a row that sees nothing has no softmax.
        seen = self.segments.unsqueeze(2) == self.segments.unsqueeze(1)
        seen &= torch.ones(length, length, dtype=torch.bool, device=seen.device).tril()
        added = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
        return added.masked_fill(~seen, torch.finfo(dtype).min).unsqueeze(1)

    def running_count(self, mask: torch.Tensor) -> torch.Tensor:
        """Return how many tokens of a mask a conversation has up to and with every token.

        Args:
            mask: `(rows, length)`, bool or 0 and 1.

        Returns:
            `(rows, length)` int64.
        """
        count = mask.long().cumsum(-1)
        if self.segments is None:
            return count
        columns = torch.arange(count.shape[1], device=count.device).expand_as(count)
        opens = torch.ones_like(self.segments, dtype=torch.bool)
        opens[:, 1:] = self.segments[:, 1:] != self.segments[:, :-1]
        starts = columns.where(opens, 0).cummax(-1).values
        return count - (count - mask.long()).gather(-1, starts)
