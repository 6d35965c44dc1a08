"""Which tokens of a row an adapter acts on."""

from __future__ import annotations

import contextvars

import pytest
import torch

from layersight.adapters import positions
from layersight.adapters.positions import Choice, Positions, announced, chosen_mask

# A row with ten image tokens, one with two, one without; padding in front.
ROWS = torch.zeros(3, 14, dtype=torch.bool)
ROWS[0, 3:13] = True
ROWS[1, 6:8] = True


def chosen(**settings):
    mask = chosen_mask(ROWS, Choice(stream="image", **settings))
    return [mask[row].nonzero().flatten().tolist() for row in range(3)]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"tokens": "all"}, [list(range(3, 13)), [6, 7], []]),
        ({"tokens": "first-last", "first": 2, "last": 3}, [[3, 4, 10, 11, 12], [6, 7], []]),
        ({"tokens": "first-last", "first": 0, "last": 1}, [[12], [7], []]),
        ({"tokens": "uniform", "number": 2}, [[7, 12], [6, 7], []]),
        ({"tokens": "uniform", "number": 3}, [[6, 9, 12], [6, 7], []]),
        ({"tokens": "uniform", "number": 50}, [list(range(3, 13)), [6, 7], []]),
        ({"tokens": "ratio", "ratio": 0.5}, [[4, 6, 8, 10, 12], [7], []]),
        ({"tokens": "ratio", "ratio": 0.01}, [[12], [7], []]),
    ],
)
def test_tokens_are_chosen_row_by_row(settings, found):
    assert chosen(**settings) == found


@pytest.mark.parametrize("number", [1, 9, 100, 727])
def test_evenly_spaced_tokens_are_as_many_as_asked_and_their_gaps_differ_by_one_at_most(number):
    mask = chosen_mask(
        torch.ones(1, 728, dtype=torch.bool), Choice("image", tokens="uniform", number=number)
    )
    found = mask[0].nonzero().flatten()
    assert len(found) == number
    gaps = found.diff()
    assert number == 1 or gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("ratio", "count"), [(0.01, 7), (0.05, 36), (0.1, 73), (0.25, 182), (0.5, 364), (1.0, 728)]
)
def test_a_share_of_the_image_tokens_is_that_share_of_every_row(ratio, count):
    rows = torch.zeros(2, 800, dtype=torch.bool)
    rows[0, 10:738] = rows[1, 50:778] = True
    mask = chosen_mask(rows, Choice("image", tokens="ratio", ratio=ratio))
    assert mask.sum(-1).tolist() == [count, count]
    assert not bool((mask & ~rows).any())


def test_the_anchor_is_the_last_opening_token_of_rows_without_an_image():
    opening = torch.zeros_like(ROWS)
    opening[0, 1:3] = opening[2, 4:9] = True
    found = Positions(image=ROWS, prompt=ROWS, opening=opening).find(
        Choice("image", tokens="first-last", first=1, last=0, text_anchor=True)
    )
    assert [index.tolist() for index in found] == [[0, 1, 2], [3, 6, 8]]


def test_a_batch_that_nobody_announced_is_an_error():
    with pytest.raises(RuntimeError, match="VisionLanguageModel.embed"):
        contextvars.Context().run(announced)


def test_the_model_announces_where_a_batch_has_its_tokens(tiny_folder, batch, tokenizer):
    from tests.conftest import IMAGE_TOKENS, tiny_model

    tiny_model(tiny_folder, 0).embed(batch)
    found = positions.announced()
    assert found.image.sum(-1).tolist() == [IMAGE_TOKENS] * 3
    # A prompt without answers is all prompt; the template's head ends where the image begins.
    assert torch.equal(found.prompt, batch.attention_mask.bool())
    for row in range(3):
        head = found.opening[row].nonzero().flatten()
        assert head[-1] + 1 == found.image[row].nonzero()[0]
        assert "user" in tokenizer.decode(batch.input_ids[row, head])
