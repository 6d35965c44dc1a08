"""Questions in JSON Lines, our own form: a line an item.

{"id": "1", "question": "What is on the table?", "answers": ["a cup", "cup"], "kind": "object",
 "image": "kitchen/1.jpg", "captions": ["A cup on a table.", "A table with a cup."]}
{"id": "2", "question": "What do plants breathe?", "choices": ["iron", "air"], "answer": 1}
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layersight.errors import DataError
from layersight.questions.items import Item, right_choice

_KEYS = ("id", "question", "answers", "choices", "answer", "image", "captions", "kind")
_EXPECTED = (
    '{"id", "question", "answers" or "choices" and "answer", and if there are "image", "captions", '
    '"kind"}'
)


def read_jsonl(path: Path) -> Iterator[Item]:
    """Yield the items of a file, one line in memory at a time; blank lines are passed over.

    Args:
        path: JSON Lines in UTF-8.

    Raises:
        DataError: no such file, or a line that is no item; the message names it.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    yield _item(json.loads(line))
                except json.JSONDecodeError as error:
                    raise DataError(
                        f"{path}: line {number}: is no JSON ({error.msg}); expected {_EXPECTED} "
                        f"on a line of its own"
                    ) from None
                except (DataError, RecursionError) as error:
                    raise DataError(f"{path}: line {number}: {error}") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a line {_EXPECTED} an item") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text in UTF-8 ({error})") from None


def _item(entry: Any) -> Item:
    if not isinstance(entry, dict):
        raise DataError(f"is {json.dumps(entry)[:60]}; expected {_EXPECTED}")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise DataError(f"has the unknown key {unknown[0]!r}; expected {_EXPECTED}")
    if ("answers" in entry) == ("choices" in entry) or ("choices" in entry) != ("answer" in entry):
        raise DataError('needs either "answers", or "choices" and "answer"')
    if "id" not in entry or isinstance(entry["id"], (dict, list, bool, float, type(None))):
        raise DataError('"id" must be a text or a whole number')
    choices = _texts(entry, "choices")
    answers = _texts(entry, "answers") or (right_choice(choices, entry.get("answer")),)
    return Item(
        item_id=str(entry["id"]),
        question=_text(entry, "question") or "",
        answers=answers,
        choices=choices,
        kind=_text(entry, "kind") or "",
        image_id=_text(entry, "image"),
        captions=_texts(entry, "captions"),
    )


def _text(entry: dict[str, Any], key: str) -> str | None:
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f'"{key}" must be a text, not {json.dumps(value)[:60]}')
    return value


def _texts(entry: dict[str, Any], key: str) -> tuple[str, ...]:
    value = entry.get(key)
    if (value is None and key in ("captions",)) or key not in entry:
        return ()
    if not isinstance(value, list) or not value or not all(isinstance(x, str) for x in value):
        raise DataError(f'"{key}" must be a list of texts, not {json.dumps(value)[:60]}')
    return tuple(value)
