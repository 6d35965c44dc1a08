"""Answering: choices by their first token, and greedy generation."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import IMAGE_TOKENS, QUESTIONS, tiny_model

from layersight.benchmarks.questions import choice_margins, first_tokens, generate
from layersight.data.collation import collate
from layersight.data.conversation import tokenize
from layersight.errors import DataError
from layersight.models.subjects import Subject, variant_and_seed


def test_the_choice_is_the_largest_logit_and_the_margin_is_in_log_probability():
    logits = torch.tensor([[0.0, 3.0, 1.0, 9.0], [2.0, -1.0, 0.5, 0.0]])
    chosen, margins = choice_margins(logits, [[0, 1, 2], [2, 1, 0]], [1, 0])
    assert chosen == [1, 2]
    log = logits.log_softmax(-1)
    assert margins[0] == pytest.approx(float(log[0, 1] - log[0, 2]), abs=1e-6)
    assert margins[1] == pytest.approx(float(log[1, 2] - log[1, 0]), abs=1e-6)


def test_the_first_of_equal_choices_is_taken():
    assert choice_margins(torch.zeros(1, 3), [[2, 0, 1]], [2])[0] == [0]


def test_choices_that_begin_alike_are_refused(tiny_folder, tokenizer):
    subject = Subject("base", tiny_model(tiny_folder, 0), tokenizer)
    assert len(set(first_tokens(["round", "angular"], subject))) == 2
    with pytest.raises(DataError, match="'round' and 'round' begin with the same token"):
        first_tokens(["round", "round"], subject)


def test_generation_in_a_padded_batch_is_each_rows_own_greedy_continuation(
    tiny_folder, tokenizer, feature_store, batch
):
    model = tiny_model(tiny_folder, 5)
    subject = Subject("aligned", model, tokenizer)
    together = generate(model, batch, subject, 5)
    for index, question in enumerate(QUESTIONS):
        row = tokenize(
            [{"from": "human", "value": question}],
            tokenizer,
            image_tokens=IMAGE_TOKENS,
            system_prompt="",
        )
        made: list[int] = []
        for _ in range(5):
            longer = type(row)(row.input_ids + made, row.roles + [4] * len(made))
            alone = collate([longer], ["abc"[index]], feature_store, padding="left", pad_token=2)
            made.append(int(model.last_logits(alone).argmax()))
            if made[-1] == tokenizer.eos_token_id:
                break
        assert together[index] == tokenizer.decode(made, skip_special_tokens=True)


def test_names_of_subjects_hold_variant_and_seed():
    assert variant_and_seed("full-10-20/seed-2") == ("full-10-20", 2)
    assert variant_and_seed("aligned") == ("aligned", -1)
