"""Tables of conversations as tokenised rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layersight.data.conversation import IMAGE_MARKER, Role, Tokens, tokenize
from layersight.data.schemas import CONVERSATIONS, INSTRUCT
from layersight.errors import DataError
from layersight.storage.tables import read_columns, read_table
from layersight.study import Study, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenized_rows(
    study: Study,
    table: Path,
    tokenizer: PreTrainedTokenizerBase,
    image_tokens: int,
    template: Template | None = None,
) -> tuple[list[Tokens], list[str | None]]:
    """Read a table with `conversations` and `image_id` and tokenise every row.

    For a table that fits into memory; `layersight.data.streaming.ConversationTable` reads any.
    A table of training conversations (one with the column `answer_class`) must end every
    conversation with an answer; any other table must leave the answer to the model.

    Args:
        study: gives the system prompt and the template.
        table: Parquet file.
        tokenizer: of the language model.
        image_tokens: positions that one image takes.
        template: how a conversation becomes text; None takes the backbone's way.

    Raises:
        DataError: the table is empty or no such table, an item occurs twice, or a row cannot be
            used (the message names it): nothing is said, the answer is missing or given away,
            image and image marker do not go together, or it is longer than the model's context.
    """
    trains = "answer_class" in read_table(table).column_names
    data = read_columns(table, INSTRUCT if trains else CONVERSATIONS).to_pylist()
    if not data:
        raise DataError(f"{table}: has no rows")
    reader = RowReader(study, tokenizer, image_tokens, template, answered=trains)
    rows: list[Tokens] = []
    seen: set[str] = set()
    for row in data:
        if row["item_id"] in seen:
            raise twice(table, row["item_id"])
        seen.add(row["item_id"])
        rows.append(reader.tokens(row, table))
    return rows, [row["image_id"] for row in data]


class RowReader:
    """Checks rows of a table and tokenises them.

    Args:
        study: gives the system prompt and the template.
        tokenizer: of the language model.
        image_tokens: positions that one image takes.
        template: how a conversation becomes text; None takes the backbone's way.
        answered: a conversation must end with an answer, or else must leave it to the model.
        longest: a longer conversation is cut off behind so many tokens; None refuses one that is
            longer than the model's context.
    """

    def __init__(
        self,
        study: Study,
        tokenizer: PreTrainedTokenizerBase,
        image_tokens: int,
        template: Template | None,
        *,
        answered: bool,
        longest: int | None = None,
    ) -> None:
        self._longest = longest
        self._tokenizer = tokenizer
        self._image_tokens = image_tokens
        self._system_prompt = study.backbone.system_prompt
        self._template = template or study.backbone.template
        self._answered = answered

    def tokens(self, row: Mapping[str, Any], table: Path) -> Tokens:
        """Return a row's tokens.

        Args:
            row: with `item_id`, `image_id` and `conversations`.
            table: where it stands, for messages.

        Raises:
            DataError: the row cannot be used, see `tokenized_rows`.
        """
        try:
            _check(row, answered=self._answered)
            tokens = tokenize(
                row["conversations"],
                self._tokenizer,
                image_tokens=self._image_tokens,
                system_prompt=self._system_prompt,
                template=self._template,
            )
            tokens = self._cut(tokens)
            if len(tokens.input_ids) > self._tokenizer.model_max_length:
                raise DataError(
                    f"is {len(tokens.input_ids)} tokens long, but the language model reads "
                    f"{self._tokenizer.model_max_length} at most; shorten it, or "
                    f"give max_tokens"
                )
        except DataError as error:
            raise DataError(f"{table}: row {row['item_id']}: {error}") from None
        return tokens

    def _cut(self, tokens: Tokens) -> Tokens:
        if self._longest is None or len(tokens.input_ids) <= self._longest:
            return tokens
        if int(Role.IMAGE) in tokens.roles[self._longest :]:
            raise DataError(
                f"its picture would be cut off behind max_tokens, {self._longest}; give more"
            )
        return Tokens(tokens.input_ids[: self._longest], tokens.roles[: self._longest])

    @property
    def settings(self) -> dict[str, object]:
        """What the tokens of a row depend on, besides the tokenizer."""
        return {
            "image_tokens": self._image_tokens,
            "system_prompt": self._system_prompt,
            "template": self._template,
            "answered": self._answered,
            "longest": int(self._tokenizer.model_max_length),
            "cut": self._longest,
        }


def twice(table: Path, item: str) -> DataError:
    """Return the error for an item that occurs twice."""
    return DataError(f"{table}: row {item}: occurs twice; every item needs a name of its own")


def _check(row: Mapping[str, Any], *, answered: bool) -> None:
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
