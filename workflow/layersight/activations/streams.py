"""Streams: which tokens of an input are kept, and what they are called on disk.

A stream that a study names may stand for several that are stored: `one` is one random image token
and one random text token, each in both orders of image and question. The image-last order is that
of `image_last`. What is read off elsewhere than at the residual stream carries the site's name
behind a dot: `last.attention`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from layersight.data.conversation import Role, Tokens
from layersight.seeds import derive_seed

MEANS = {"image_mean": Role.IMAGE, "text_mean": Role.TEXT}
"""Streams that are means, and over which tokens."""
ONE = {"one_image": Role.IMAGE, "one_text": Role.TEXT}
"""Streams of one random token of a role, in the order of the conversation."""
REVERSED = "_reversed"
"""Behind the name of a stream that is read with the image after the question."""
EVERY = "all"
RESIDUAL = "residual"
_OWN = (Role.IMAGE, Role.TEXT)


@dataclass(frozen=True)
class Pass:
    """One forward pass over a batch, and what is read off it.

    Attributes:
        image_last: the question comes before the image.
        pooled: stored names of the streams with one vector an input.
        every: also keep every token.
    """

    image_last: bool
    pooled: tuple[str, ...]
    every: bool


def passes(stored: Sequence[str]) -> list[Pass]:
    """Return the forward passes that streams need: one, or two with reversed streams.

    Args:
        stored: names as stored, see `layersight.study.Activations.stored`, and perhaps `all`.
    """
    plain = tuple(name for name in stored if name != EVERY and not name.endswith(REVERSED))
    turned = tuple(name for name in stored if name.endswith(REVERSED))
    found = [Pass(False, plain, EVERY in stored)]
    return found + ([Pass(True, turned, False)] if turned else [])


def stored_name(stream: str, site: str) -> str:
    """Return the name of a stream at a site: its own at the residual stream."""
    return stream if site == RESIDUAL else f"{stream}.{site}"


def image_last(tokens: Tokens) -> Tokens:
    """Return a conversation whose images stand after the words of their turn.

    The tokens are the same, whatever the template, and so is the order among words and among image
    tokens; only a turn's image tokens move behind its last word. A conversation without an image,
    or with nothing but an image in a turn, stays as it is.
    """
    order: list[int] = []
    turn: list[int] = []
    for index, role in enumerate([*tokens.roles, Role.TEMPLATE]):
        if role in _OWN:
            turn.append(index)
            continue
        order += sorted(turn, key=lambda i: tokens.roles[i] == Role.IMAGE)
        turn = []
        order.append(index)
    order.pop()  # the sentinel
    return Tokens([tokens.input_ids[i] for i in order], [tokens.roles[i] for i in order])


def one_tokens(tokens: Tokens, study_seed: int, probe: str, item: str) -> Mapping[str, int]:
    """Draw one image token and one text token of a conversation.

    Which of the image tokens and which of the text tokens depends on the study's seed and on the
    names of probe set and item alone, so that it is the same for every subject and in both orders.

    Args:
        tokens: the conversation, in either order.
        study_seed: the study's seed.
        probe: name of the probe set.
        item: the item's id.

    Returns:
        `one_image` and `one_text` to an index into `tokens`; a role without tokens is left out.
    """
    found = {}
    for stream, role in ONE.items():
        where = [index for index, given in enumerate(tokens.roles) if given == role]
        if where:
            draw = derive_seed(study_seed, f"activations/{stream}/{probe}/{item}")
            found[stream] = where[draw % len(where)]
    return found
