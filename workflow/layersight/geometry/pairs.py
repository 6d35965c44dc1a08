"""Which probe sets show the same things as images and as words."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

PAIRS = (
    ("concepts", "pair_images", "pair_texts", "image_mean", "text_mean"),
    ("concepts", "pair_images", "pair_texts", "last", "last"),
    ("questions", "visual_questions", "text_questions", "last", "last"),
    ("tokens", "visual_questions", "visual_questions", "one_image_reversed", "one_text"),
)
"""Name, probe set with images, probe set with text, and the stream read off each. `tokens` pairs a
random image token that stands after the question with a random text token that stands after the
image, so that each has seen the other (the order of "The Narrow Gate")."""


POOLED_STREAMS = ("means", "one")
"""Names of pooled streams whose two sides have names of their own."""


@dataclass(frozen=True)
class Pool:
    """Two clouds that are taken together.

    Attributes:
        name: of the pair.
        images, words: probe sets.
        streams: name of a pooled stream to the stream of the images and of the words.
    """

    name: str
    images: str
    words: str
    streams: Mapping[str, tuple[str, str]]


def pairs_of(
    probes: Collection[str], streams: Collection[str]
) -> list[tuple[str, str, str, str, str]]:
    """Return the pairs of which both probe sets and both streams are there."""
    return [
        pair
        for pair in PAIRS
        if {pair[1], pair[2]} <= set(probes) and {pair[3], pair[4]} <= set(streams)
    ]


def pools_of(probes: Collection[str], streams: Collection[str]) -> list[Pool]:
    """Return the pairs with the streams that can be pooled, `last` and `means`."""
    found: dict[str, Pool] = {}
    for name, images, words, image_stream, text_stream in pairs_of(probes, streams):
        stream = {"image_mean": "means", "one_image_reversed": "one"}.get(
            image_stream, image_stream
        )
        known = found.get(name, Pool(name, images, words, {}))
        both = {**known.streams, stream: (image_stream, text_stream)}
        found[name] = Pool(name, images, words, both)
    return list(found.values())
