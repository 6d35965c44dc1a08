"""Tables of conversations as tokenised rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersight.data.conversation import IMAGE_MARKER, Tokens, tokenize
from layersight.data.schemas import CONVERSATIONS, INSTRUCT
from layersight.errors import DataError
from layersight.storage.tables import read_columns, read_table
from layersight.study import Study

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenized_rows(
    study: Study, table: Path, tokenizer: PreTrainedTokenizerBase, image_tokens: int
) -> tuple[list[Tokens], list[str | None]]:
    """Read a table with `conversations` and `image_id` and tokenise every row.

    A table of training conversations (one with the column `answer_class`) must end every
    conversation with an answer; any other table must leave the answer to the model.

    Raises:
        DataError: the table is empty or no such table, an item occurs twice, or a row cannot be
            used (the message names it): nothing is said, the answer is missing or given away,
            image and image marker do not go together, or it is longer than the model's context.
    """
    trains = "answer_class" in read_table(table).column_names
    data = read_columns(table, INSTRUCT if trains else CONVERSATIONS).to_pylist()
    if not data:
        raise DataError(f"{table}: has no rows")
    rows: list[Tokens] = []
    seen: set[str] = set()
    for row in data:
        try:
            if row["item_id"] in seen:
                raise DataError("occurs twice; every item needs a name of its own")
            seen.add(row["item_id"])
            _check(row, answered=trains)
            tokens = tokenize(
                row["conversations"],
                tokenizer,
                image_tokens=image_tokens,
                system_prompt=study.backbone.system_prompt,
            )
            if len(tokens.input_ids) > tokenizer.model_max_length:
                raise DataError(
                    f"is {len(tokens.input_ids)} tokens long, but the language model reads "
                    f"{tokenizer.model_max_length} at most; shorten it"
                )
            rows.append(tokens)
        except DataError as error:
            raise DataError(f"{table}: row {row['item_id']}: {error}") from None
    return rows, [row["image_id"] for row in data]


def _check(row: dict[str, Any], *, answered: bool) -> None:
    turns = row["conversations"]
    for turn in turns:
        if turn is None or turn["from"] is None or turn["value"] is None:
            raise DataError("a turn of the conversation has no speaker or no text")
    if not turns:
        raise DataError("the conversation has no turns")
    ends_with_answer = turns[-1]["from"] == "gpt"
    if answered and not (ends_with_answer and turns[-1]["value"].strip()):
        raise DataError("the conversation has no answer; it must end with a turn from 'gpt'")
    if not answered and ends_with_answer:
        raise DataError("the conversation is answered already; it must end with the human's turn")
    if any(IMAGE_MARKER in turn["value"] for turn in turns if turn["from"] != "human"):
        raise DataError(f"{IMAGE_MARKER} stands outside the human's turns")
    marked = sum(turn["value"].count(IMAGE_MARKER) for turn in turns)
    if row["image_id"] is None and marked:
        raise DataError(f"{IMAGE_MARKER} stands in the conversation, but image_id is empty")
    if row["image_id"] is not None and marked != 1:
        raise DataError(
            f"has the image {row['image_id']}, but {marked} times {IMAGE_MARKER} in its "
            f"conversation; expected once"
        )
