"""Where the tokens of the running batch are, for adapters that act on some of them only.

A block sees hidden states and no tokens. So whoever embeds a batch announces its positions, and an
adapter inside a block reads them; they hold until the next batch is embedded.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

import torch


@dataclass(frozen=True)
class Choice:
    """Which tokens of a row an adapter acts on.

    Attributes:
        stream: among the image tokens, or among the tokens of the prompt.
        tokens: `all`; `first-last`: the first and the last ones; `uniform`: a number of evenly
            spaced ones; `ratio`: a share of them, evenly spaced.
        first: how many at the front, for `first-last`.
        last: how many at the end, for `first-last`.
        number: how many, for `uniform`; a row that has fewer gives all.
        ratio: which share, for `ratio`; at least one token of a row that has any.
        text_anchor: in a row without an image, act on the last token before the user's own words.
    """

    stream: Literal["image", "prompt"]
    tokens: Literal["all", "first-last", "uniform", "ratio"] = "all"
    first: int = 4
    last: int = 5
    number: int = 9
    ratio: float = 0.01
    text_anchor: bool = False


@dataclass(frozen=True, eq=False)
class Positions:
    """Where the tokens of a batch are; every mask is `(rows, length)` bool and false on padding.

    Attributes:
        image: image tokens.
        prompt: tokens before the first answer, those of the image and of the template included.
        opening: tokens before the user's own words and image: the template's head and the system
            message.
        segments: `(rows, length)` int64; which conversation of its row a token belongs to, from 1;
            0 on padding; None where a row is one conversation.
    """

    image: torch.Tensor
    prompt: torch.Tensor
    opening: torch.Tensor
    segments: torch.Tensor | None = None
    _found: dict[Choice, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def find(self, choice: Choice) -> tuple[torch.Tensor, torch.Tensor]:
        """Return row and column of every chosen token, `(chosen,)` int64 each."""
        if choice not in self._found:  # every block of a model asks for the same
            mask = self.image if choice.stream == "image" else self.prompt
            chosen = chosen_mask(self._apart(mask), choice)
            if choice.text_anchor:
                chosen = chosen | self._anchors()
            if self.segments is not None:
                chosen = chosen.unflatten(0, (len(mask), -1)).any(1)
            rows, columns = chosen.nonzero(as_tuple=True)
            self._found[choice] = (rows, columns)
        return self._found[choice]

    def _apart(self, mask: torch.Tensor) -> torch.Tensor:
        """Return a mask with a row of its own for every conversation, `(conversations, length)`."""
        if self.segments is None:
            return mask
        numbers = torch.arange(1, int(self.segments.max()) + 1, device=mask.device)
        each = self.segments.unsqueeze(1) == numbers.unsqueeze(1)
        return (mask.unsqueeze(1) & each).flatten(0, 1)

    def _anchors(self) -> torch.Tensor:
        """Return the mask of the last opening token of every conversation without an image."""
        opening = self._apart(self.opening)
        left = opening.sum(-1, keepdim=True) - opening.cumsum(-1)
        return opening & (left == 0) & ~self._apart(self.image).any(-1, keepdim=True)


def chosen_mask(mask: torch.Tensor, choice: Choice) -> torch.Tensor:
    """Return which tokens of a mask a choice takes, `(rows, length)` bool.

    Evenly spaced means the last token of each of n stretches of equal length. The tokens of several
    images in one row count as one sequence.
    """
    if choice.tokens == "all":
        return mask
    count = mask.sum(-1, keepdim=True)
    rank = mask.cumsum(-1) - 1
    if choice.tokens == "first-last":
        return mask & ((rank < choice.first) | (rank >= count - choice.last))
    if choice.tokens == "uniform":
        wanted = torch.full_like(count, choice.number)
    else:
        wanted = (count * choice.ratio).round().long().clamp(min=1)
    wanted = torch.minimum(wanted, count)
    size = count.clamp(min=1)
    return mask & ((rank + 1) * wanted // size > rank * wanted // size)


_ANNOUNCED: ContextVar[Positions | None] = ContextVar("announced positions", default=None)


def announce(positions: Positions) -> None:
    """Say where the tokens are of the batch that runs through the blocks from now on."""
    _ANNOUNCED.set(positions)


def announced() -> Positions:
    """Return the positions of the running batch.

    Raises:
        RuntimeError: none were announced.
    """
    positions = _ANNOUNCED.get()
    if positions is None:
        raise RuntimeError(
            "this adapter acts on some tokens only and does not know where they are: embed the "
            "batch with VisionLanguageModel.embed, or call layersight.adapters.positions.announce"
        )
    return positions
