"""Tables of conversations as tokenised rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layersight.data.conversation import Tokens, tokenize
from layersight.errors import DataError
from layersight.storage.tables import read_table
from layersight.study import Study

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokenized_rows(
    study: Study, table: Path, tokenizer: PreTrainedTokenizerBase, image_tokens: int
) -> tuple[list[Tokens], list[str | None]]:
    """Read a table with `conversations` and `image_id` and tokenise every row.

    Raises:
        DataError: the table is empty, or a row cannot be tokenised (the message names it).
    """
    data = read_table(table).select(["item_id", "image_id", "conversations"]).to_pylist()
    if not data:
        raise DataError(f"{table}: has no rows")
    rows = []
    for row in data:
        try:
            rows.append(
                tokenize(
                    row["conversations"],
                    tokenizer,
                    image_tokens=image_tokens,
                    system_prompt=study.backbone.system_prompt,
                )
            )
        except DataError as error:
            raise DataError(f"{table}: row {row['item_id']}: {error}") from None
    return rows, [row["image_id"] for row in data]
