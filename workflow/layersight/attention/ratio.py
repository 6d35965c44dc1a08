"""Attention to the image over attention to the text: the numbers behind LMAR.

LMAR (LLaVA Steering, Bi et al. 2024) of a block is the mean over items of α_img / α_txt, where α is
the mean attention from generated tokens to the positions of the image or of the text, averaged over
heads. The paper leaves open which rows of the attention matrix count and what becomes of the first
token, which draws much attention whatever it is (Xiao et al. 2024). So, here:

- Rows that count are, by default, the query positions that produce the generated tokens: the last
  token of the prompt, which produces the first one, and every generated token but the last
  (`producing`); or the generated tokens' own rows (`generated`). Both are as many as there are
  generated tokens, the end-of-turn token included.
- Text is everything else that such a row may look at: all positions up to and including its own
  that are neither image nor padding, tokens of the template and generated tokens among them.
- Everything is computed with the row's first token and without it. Weights are not rescaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from layersight.data.batch import Batch
from layersight.data.conversation import Role

Rows = Literal["producing", "generated"]
KINDS = ("mean", "sum")
BOS = (False, True)


@dataclass(frozen=True)
class Division:
    """Which attention weights of a batch count, and as what.

    Attributes:
        start: first query position that counts in any row; those before are not looked at.
        queries: `(rows, queries)` float32; equal weights, summing to one, on queries that count.
        image: `(2, rows, queries, length)` bool, for each of `BOS`; image positions of a query.
        text: `(2, rows, queries, length)` bool; text positions of a query.
    """

    start: int
    queries: torch.Tensor
    image: torch.Tensor
    text: torch.Tensor

    def __call__(self, weights: torch.Tensor) -> torch.Tensor:
        """Reduce one block's attention.

        Args:
            weights: `(rows, heads, length, length)`, of any float type.

        Returns:
            Attention to image and text, `(rows, kinds, bos, 2)` float32 in the order of `KINDS`,
            `BOS` and (image, text); NaN means of a modality that has no position.
        """
        read = weights[:, :, self.start :].float().mean(1)
        found = []
        for positions in (self.image, self.text):
            total = (read * positions).sum(-1)
            mean = total / positions.sum(-1)
            # Queries that do not count may see nothing: their NaN must not spread.
            kinds = torch.stack([mean, total]).masked_fill(self.queries == 0, 0.0)
            found.append((kinds * self.queries).sum(-1))
        return torch.stack(found, -1).permute(2, 0, 1, 3)


def divide(batch: Batch, prompt: int, rows: Rows = "producing") -> Division:
    """Say which attention weights of a batch of answered prompts count.

    Args:
        batch: left-padded prompts with their generated tokens behind, as `answered` makes it.
        prompt: length of the padded prompts.
        rows: which query positions count, see the module.
    """
    real = batch.attention_mask.bool()
    length = real.shape[1]
    start = prompt - 1
    generated = real[:, prompt:]
    nothing = torch.zeros_like(generated[:, :1])
    parts = [generated, nothing] if rows == "producing" else [nothing, generated]
    counted = torch.cat(parts, 1)
    image = real & (batch.roles == int(Role.IMAGE))
    text = real & ~image
    first = real & (real.cumsum(-1) == 1)
    places = torch.arange(length, device=real.device)
    seen = places <= places[start:, None]
    return Division(
        start=start,
        queries=counted.float() / counted.sum(-1, keepdim=True),
        image=torch.stack([image & ~first, image])[:, :, None] & seen,
        text=torch.stack([text & ~first, text])[:, :, None] & seen,
    )


def ratios(divided: torch.Tensor) -> torch.Tensor:
    """Return image over text, NaN where that is not a finite number.

    Args:
        divided: `(..., 2)`, as a `Division` gives it.
    """
    found = divided[..., 0] / divided[..., 1]
    return found.masked_fill(~found.isfinite(), float("nan"))
