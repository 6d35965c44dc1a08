"""The columns of every data table.

Pictures and conversations are stored as the Hugging Face `datasets` library and the LLaVA JSON have
them: `image` is a struct of PNG bytes and path, and a conversation is a list of turns from `human`
and `gpt`, where an image is the marker `<image>` at the head of the human's text.
"""

from __future__ import annotations

import pyarrow as pa

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CONVERSATION = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))


def _text(name: str) -> pa.Field:
    return pa.field(name, pa.string(), nullable=False)


# One row per thing that can be shown. `concept` is the slug of `label`; `tags` are keywords;
# `synonyms` are other names that count as right; `unseen` concepts are in no training set.
CONCEPTS = pa.schema(
    [
        _text("concept"),
        _text("label"),
        _text("kind"),
        _text("subgroup"),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("synonyms", pa.list_(pa.string()), nullable=False),
        pa.field("unseen", pa.bool_(), nullable=False),
    ]
)

# One row per picture; `image_id` is "<concept>/<style>".
IMAGES = pa.schema(
    [
        _text("image_id"),
        _text("concept"),
        _text("style"),
        pa.field("image", IMAGE, nullable=False),
    ]
)

# Training conversations, one per row. `image_id` is null where there is no picture; `answer_class`
# is the answer of the tasks kind and presence and null elsewhere. The order of the rows is the
# order of training.
INSTRUCT = pa.schema(
    [
        _text("item_id"),
        _text("task"),
        _text("concept"),
        pa.field("image_id", pa.string()),
        pa.field("conversations", CONVERSATION, nullable=False),
        pa.field("answer_class", pa.string()),
    ]
)
ALIGN = INSTRUCT

# What every table of conversations has: all that is needed to tokenise its rows.
CONVERSATIONS = pa.schema(
    [INSTRUCT.field("item_id"), INSTRUCT.field("image_id"), INSTRUCT.field("conversations")]
)

# Inputs on which representations are compared; the human's turn only. Rows of two probe sets pair
# up by `item_id`.
PROBE = pa.schema(
    [
        _text("item_id"),
        _text("concept"),
        _text("kind"),
        _text("subgroup"),
        pa.field("image_id", pa.string()),
        pa.field("conversations", CONVERSATION, nullable=False),
    ]
)

# Benchmark questions; the human's turn only. `condition` is the kind of negative in `presence` and
# "all" elsewhere. `cluster` groups items that are not independent. `choices` is empty where the
# answer is free text. `chance` is the expected score of guessing among the choices; `majority` is
# the score, 0 or 1, of always giving the most frequent answer of the training set.
BENCHMARK = pa.schema(
    [
        _text("item_id"),
        _text("split"),
        _text("condition"),
        _text("concept"),
        _text("kind"),
        _text("subgroup"),
        pa.field("image_id", pa.string()),
        _text("cluster"),
        pa.field("conversations", CONVERSATION, nullable=False),
        pa.field("choices", pa.list_(pa.string()), nullable=False),
        _text("answer"),
        pa.field("references", pa.list_(pa.string()), nullable=False),
        pa.field("chance", pa.float64(), nullable=False),
        pa.field("majority", pa.float64(), nullable=False),
    ]
)
