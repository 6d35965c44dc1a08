"""Benchmark items as batches, and the two ways of answering them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layersight.data.batch import Batch
from layersight.data.collation import collate, length_sorted_batches
from layersight.data.conversation import Tokens
from layersight.data.features import FeatureStore
from layersight.data.rows import tokenized_rows
from layersight.errors import DataError
from layersight.models.blocks import unwrapped
from layersight.models.subjects import Subject
from layersight.models.vlm import VisionLanguageModel
from layersight.storage.tables import read_table
from layersight.study import Study


@dataclass(frozen=True)
class Questions:
    """The items of one benchmark, tokenised.

    Attributes:
        items: rows of the benchmark table.
        tokens: the prompt of every item.
    """

    items: list[dict[str, Any]]
    tokens: list[Tokens]

    def batches(
        self, features: FeatureStore, *, batch_size: int, pad_token: int
    ) -> Iterator[tuple[list[int], Batch]]:
        """Yield item indices and their left-padded batch, in an order fixed by the lengths."""
        lengths = [len(row.input_ids) for row in self.tokens]
        for chosen in length_sorted_batches(lengths, batch_size):
            yield (
                chosen.tolist(),
                collate(
                    [self.tokens[i] for i in chosen],
                    [self.items[i]["image_id"] for i in chosen],
                    features,
                    padding="left",
                    pad_token=pad_token,
                ),
            )


def load_questions(
    study: Study, table: Path, subject: Subject, image_tokens: int, split: str | None = None,
    limit: int | None = None,
) -> Questions:  # fmt: skip
    """Read and tokenise a benchmark, or the first `limit` items of one split.

    Raises:
        DataError: no item is left.
    """
    tokens, _ = tokenized_rows(study, table, subject.tokenizer, image_tokens)
    items = read_table(table).to_pylist()
    kept = [i for i, item in enumerate(items) if split is None or item["split"] == split][:limit]
    if not kept:
        raise DataError(f"{table}: has no items of the split {split!r}")
    return Questions([items[i] for i in kept], [tokens[i] for i in kept])


def first_tokens(choices: Sequence[str], subject: Subject) -> list[int]:
    """Return the first token of every choice, as the assistant's turn would begin.

    Raises:
        DataError: two choices begin with the same token, so that it cannot tell them apart.
    """
    tokens = [
        subject.tokenizer(choice, add_special_tokens=False)["input_ids"][0] for choice in choices
    ]
    for index, token in enumerate(tokens):
        if token in tokens[:index]:
            other = choices[tokens.index(token)]
            raise DataError(
                f"the choices {other!r} and {choices[index]!r} begin with the same token; rename "
                "one of these kinds in concepts.kinds"
            )
    return tokens


def choice_margins(
    logits: torch.Tensor, choices: Sequence[Sequence[int]], correct: Sequence[int]
) -> tuple[list[int], list[float]]:
    """Compare choices by the logit of their first token.

    Args:
        logits: `(rows, vocabulary)` float32.
        choices: first token of every choice, per row.
        correct: index of the right choice, per row.

    Returns:
        The chosen index (the first of equals), and the log-probability of the right choice minus
        that of the best wrong one, per row.
    """
    chosen, margins = [], []
    for row, tokens, right in zip(logits, choices, correct, strict=True):
        values = row[torch.tensor(tokens, device=row.device)].double()
        wrong = torch.cat([values[:right], values[right + 1 :]])
        chosen.append(int(values.argmax()))
        margins.append(float(values[right] - wrong.max()))
    return chosen, margins


@torch.inference_mode()
def generate(
    model: VisionLanguageModel, batch: Batch, subject: Subject, max_new_tokens: int
) -> list[str]:
    """Answer greedily; return the text of every row without special tokens."""
    language_model = unwrapped(model.language_model)
    output = language_model.generate(
        inputs_embeds=model.embed(batch),
        attention_mask=batch.attention_mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=subject.tokenizer.pad_token_id,
        eos_token_id=subject.tokenizer.eos_token_id,
    )
    texts: list[str] = subject.tokenizer.batch_decode(output, skip_special_tokens=True)
    return texts
