"""Benchmark items as batches, and the two ways of answering them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from layersight.benchmarks.scoring import normalise_answer
from layersight.data.batch import Batch
from layersight.data.collation import collate, length_sorted_batches
from layersight.data.conversation import Tokens, answer_tokens
from layersight.data.features import FeatureStore
from layersight.data.rows import tokenized_rows
from layersight.data.schemas import BENCHMARK
from layersight.errors import DataError
from layersight.models.blocks import unwrapped
from layersight.models.subjects import Subject
from layersight.models.vlm import VisionLanguageModel
from layersight.storage.tables import read_table
from layersight.study import Study, Template


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
        DataError: no benchmark table, an item that cannot be scored, or no item is left.
    """
    items = read_table(table, BENCHMARK).to_pylist()
    tokens, _ = tokenized_rows(study, table, subject.tokenizer, image_tokens)
    kept = [i for i, item in enumerate(items) if split is None or item["split"] == split][:limit]
    if not kept:
        splits = ", ".join(sorted({item["split"] for item in items}))
        raise DataError(f"{table}: has no items of the split {split!r}; its splits are {splits}")
    _check_answers(table, [items[i] for i in kept])
    return Questions([items[i] for i in kept], [tokens[i] for i in kept])


def _check_answers(table: Path, items: Sequence[dict[str, Any]]) -> None:
    free: Counter[str] = Counter()
    for item in items:
        where = f"{table}: row {item['item_id']}"
        if not item["answer"].strip():
            raise DataError(f"{where}: answer is empty; every item needs its right answer")
        if item["choices"] and item["answer"] not in item["choices"]:
            raise DataError(
                f"{where}: the answer {item['answer']!r} is none of the choices "
                f"{', '.join(str(choice) for choice in item['choices'])}"
            )
        if not item["choices"]:
            free[item["split"]] += 1
            if not any(normalise_answer(text or "") for text in item["references"]):
                raise DataError(f"{where}: references has no word in it; give an accepted answer")
            if None in item["references"]:
                raise DataError(f"{where}: one of its references is empty")
    for split, count in free.items():
        if count < 2:
            raise DataError(
                f"{table}: the split {split} has one item; free answers are scored with document "
                f"frequencies, which need two at least"
            )


def first_tokens(
    choices: Sequence[str], subject: Subject, template: Template = "chat"
) -> list[int]:
    """Return the first token of every choice, as the assistant's turn would begin.

    Args:
        choices: of one item.
        subject: whose tokenizer reads them.
        template: of the conversation.

    Raises:
        DataError: there are no two choices, one has no token, or two begin with the same token, so
            that it cannot tell them apart.
    """
    if len(choices) < 2:
        raise DataError(f"an item has the choices {list(choices)}; a choice needs two at least")
    tokens = []
    for choice in choices:
        encoded = answer_tokens(choice, subject.tokenizer, template=template) if choice else []
        if not encoded:
            raise DataError(f"the choice {choice!r} has no token; name every choice")
        tokens.append(encoded[0])
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
    model: VisionLanguageModel,
    batch: Batch,
    subject: Subject,
    max_new_tokens: int,
    embeddings: torch.Tensor | None = None,
) -> list[str]:
    """Answer greedily; return the text of every row without special tokens.

    Args:
        model: answers.
        batch: left-padded questions.
        subject: gives the tokenizer.
        max_new_tokens: longest answer.
        embeddings: input of block 0 in place of the model's own, as patching makes it.

    Raises:
        DataError: prompt and answer may be longer than the model's context.
    """
    language_model = unwrapped(model.language_model)
    prompt = int(batch.input_ids.shape[1])
    if prompt + max_new_tokens > subject.tokenizer.model_max_length:
        raise DataError(
            f"a prompt of {prompt} tokens and max_new_tokens = {max_new_tokens} (of benchmarks, or "
            f"of the set of questions) exceed the {subject.tokenizer.model_max_length} tokens that "
            "the language model reads"
        )
    output = language_model.generate(
        inputs_embeds=model.embed(batch) if embeddings is None else embeddings,
        attention_mask=batch.attention_mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=subject.tokenizer.pad_token_id,
        eos_token_id=subject.tokenizer.eos_token_id,
    )
    texts: list[str] = subject.tokenizer.batch_decode(output, skip_special_tokens=True)
    return texts
