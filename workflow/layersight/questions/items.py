"""One question of a set, and the table of a set's questions."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from layersight.data.templates import IMAGE_MARKER
from layersight.errors import DataError
from layersight.storage.tables import read_table

LETTERS = string.ascii_uppercase
"""Names of the choices, in their order."""

QUESTIONS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("question", pa.string(), nullable=False),
        pa.field("answers", pa.list_(pa.string()), nullable=False),
        pa.field("choices", pa.list_(pa.string()), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("image_id", pa.string()),
        pa.field("captions", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        item_id: its name in the set.
        question: its words, without choices.
        answers: accepted answers, at least one; with choices the text of the right one.
        choices: texts of the choices, two or more; empty where the answer is free.
        kind: of question.
        image_id: the picture; None without one.
        captions: what stands for the picture on words alone.
        right: index of the right choice; None without choices.
    """

    item_id: str
    question: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    kind: str = ""
    image_id: str | None = None
    captions: tuple[str, ...] = ()

    @property
    def right(self) -> int | None:
        """Index of the right choice; None where the answer is free."""
        return self.choices.index(self.answers[0]) if self.choices else None

    def row(self) -> dict[str, Any]:
        """Return the item as a row of the table `QUESTIONS`."""
        return asdict(self)


def checked(item: Item) -> Item:
    """Return an item that can be asked.

    Raises:
        DataError: nothing is asked, no answer is right, too few or equal choices, an image marker
            in its words, or half of a surrogate pair; the message does not name it.
    """
    texts = (item.item_id, item.question, *item.answers, *item.choices, item.kind, *item.captions)
    if not item.question.strip():
        raise DataError("question is empty")
    if not item.answers or not all(answer.strip() for answer in item.answers):
        raise DataError("answers has none, or an empty one; every question needs a right answer")
    if item.choices and not 2 <= len(item.choices) <= len(LETTERS):
        raise DataError(f"has {len(item.choices)} choices; expected 2 to {len(LETTERS)}")
    if len(set(item.choices)) != len(item.choices):
        raise DataError("two of its choices are the same")
    for text in texts:
        if IMAGE_MARKER in text:
            raise DataError(f"has {IMAGE_MARKER} in its words; the picture is put there anyway")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError("has half of a surrogate pair, which is no character") from None
    return item


def right_choice(choices: Sequence[str], answer: object) -> str:
    """Return the text of the right choice.

    Args:
        choices: of an item.
        answer: index of the right one, from 0.

    Raises:
        DataError: no such index.
    """
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise DataError(
            f"answer is {answer!r}; expected the index of one of its {len(choices)} choices, 0 to "
            f"{len(choices) - 1}"
        )
    return choices[answer]


def read_items(path: Path) -> list[Item]:
    """Read a table of questions.

    Raises:
        DataError: missing, or not such a table.
    """
    rows: list[dict[str, Any]] = read_table(path, QUESTIONS).to_pylist()
    lists = ("answers", "choices", "captions")
    return [Item(**row | {key: tuple(row[key]) for key in lists}) for row in rows]
