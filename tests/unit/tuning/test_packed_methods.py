"""Methods learn the same from packed rows as from padded ones."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import IMAGE_TOKENS, tiny_model

from layersight.data.collation import collate, collate_packed
from layersight.data.conversation import tokenize
from layersight.tuning import methods

CONVERSATIONS = [
    ("<image>\nWhich kind of thing is this?", "round", "a"),
    ("Is there a red circle in this picture, or is there none at all?", "no", None),
    ("<image>", "a red circle in this picture", "b"),
    ("Round?", "no, pointed", None),
]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("full", {}),
        ("lora", {}),
        ("mores", {"first": 1, "last": 1}),
        ("mores", {"tokens": "uniform", "number": 2, "compat_text_anchor": True}),
        ("reft", {}),
        ("reft", {"first": 2, "last": 1}),
    ],
)
def test_loss_and_gradients_are_those_of_the_padded_batch(
    tiny_folder, tokenizer, feature_store, name, options
):
    rows = [
        tokenize(
            [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
            tokenizer,
            image_tokens=IMAGE_TOKENS,
            system_prompt="",
        )
        for question, answer, _ in CONVERSATIONS
    ]
    images = [image for *_, image in CONVERSATIONS]
    model = tiny_model(tiny_folder, 0)
    method = methods.method(name)
    model.language_model = method.apply(
        model.language_model, method.Options.model_validate(options), None
    )
    torch.manual_seed(1)
    with torch.no_grad():  # adapters that start as nothing would hide a difference
        for parameter in model.language_model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    found = []
    for batch in (
        collate(rows, images, feature_store, padding="right", pad_token=2, labels=True),
        collate_packed(rows, images, feature_store, [[1, 3], [2, 0]], pad_token=2, labels=True),
    ):
        model.zero_grad()
        loss, count = model.loss(batch)
        loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found.append((loss.item(), count, gradients))
    (loss, count, gradients), (packed_loss, packed_count, packed_gradients) = found
    assert packed_loss == pytest.approx(loss, abs=1e-5) and packed_count == count
    for packed, padded in zip(packed_gradients, gradients, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-4, rtol=1e-3)
