"""The assembled model, against the language model alone and against itself in other batches."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import IMAGE_TOKENS, QUESTIONS, tiny_model

from layersight.data.batch import Batch
from layersight.data.collation import collate
from layersight.data.conversation import IMAGE_TOKEN, tokenize


def test_text_alone_gives_the_language_models_own_logits(tiny_folder, tokenizer):
    model = tiny_model(tiny_folder, 0)
    row = tokenize([{"from": "human", "value": "red circle"}], tokenizer, image_tokens=1)
    batch = collate([row], [None], None, padding="left", pad_token=2)
    own = model.language_model(torch.tensor([row.input_ids])).logits[:, -1]
    assert torch.allclose(model.last_logits(batch), own, atol=1e-6)


def test_padding_and_neighbours_in_the_batch_do_not_change_a_rows_logits(
    tiny_folder, tokenizer, feature_store, batch
):
    model = tiny_model(tiny_folder, 0)
    together = model.last_logits(batch)
    for index, question in enumerate(QUESTIONS):
        row = tokenize(
            [{"from": "human", "value": question}],
            tokenizer,
            image_tokens=IMAGE_TOKENS,
            system_prompt="",
        )
        alone = collate([row], ["abc"[index]], feature_store, padding="left", pad_token=2)
        assert torch.allclose(model.last_logits(alone)[0], together[index], atol=1e-5)


def test_image_features_go_where_the_image_stands(tiny_folder, batch):
    model = tiny_model(tiny_folder, 0)
    embedded = model.embed(batch)
    projected = model.connector(batch.features)
    for row in range(3):
        where = batch.input_ids[row] == IMAGE_TOKEN
        assert torch.equal(embedded[row, where], projected[row])


def test_a_wrong_number_of_image_features_is_refused(tiny_folder, batch):
    model = tiny_model(tiny_folder, 0)
    short = Batch(batch.input_ids, batch.attention_mask, batch.features[:2], batch.roles)
    with pytest.raises(ValueError, match="image positions"):
        model.embed(short)


def test_the_loss_is_that_of_the_full_logits(tiny_folder, tokenizer, feature_store):
    model = tiny_model(tiny_folder, 0)
    rows = [
        tokenize(
            [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
            tokenizer,
            image_tokens=IMAGE_TOKENS,
        )
        for question, answer in zip(QUESTIONS, ("round", "no", "red circle"), strict=True)
    ]
    batch = collate(rows, ["a", "b", "c"], feature_store, padding="right", pad_token=2, labels=True)
    loss, count = model.loss(batch)
    logits = model.language_model(
        inputs_embeds=model.embed(batch), attention_mask=batch.attention_mask
    ).logits
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=-100
    )
    assert torch.allclose(loss, expected, atol=1e-5)
    assert count == int((batch.labels[:, 1:] != -100).sum())
