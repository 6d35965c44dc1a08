"""Which attention weights count, against closed forms and sums written out."""

from __future__ import annotations

import pytest
import torch

from layersight.attention.ratio import divide, ratios
from layersight.data.batch import Batch
from layersight.data.conversation import Role

# Two rows, left-padded: template, image, text, and two and one generated tokens behind.
P, T, X, I, A = Role.PADDING, Role.TEMPLATE, Role.TEXT, Role.IMAGE, Role.ANSWER  # noqa: E741
ROLES = [
    [T, I, I, I, X, X, T, A, A],
    [P, P, T, I, X, X, T, A, P],
]
PROMPT = 7


@pytest.fixture
def answers():
    roles = torch.tensor(ROLES, dtype=torch.int8)
    return Batch(
        input_ids=torch.zeros(2, 9, dtype=torch.int64),
        attention_mask=(roles != int(P)).long(),
        features=None,
        roles=roles,
    )


def causal(batch, weights):
    """Attention of two equal heads: given weights below the diagonal, rows summing to one."""
    seen = torch.ones(9, 9).tril() * batch.attention_mask[:, None]
    weights = weights * seen
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)
    return weights[:, None].expand(-1, 2, -1, -1)


def test_uniform_attention_is_balanced_in_the_mean_and_counts_positions_in_the_sum(answers):
    uniform = causal(answers, torch.ones(2, 9, 9))
    found = ratios(divide(answers, PROMPT)(uniform))
    assert torch.allclose(found[:, 0], torch.ones(2, 2))
    # One answer token: its row looks at one image token, and at four others with the first one.
    assert torch.allclose(found[1, 1], torch.tensor([1 / 3, 1 / 4]))
    # Two: the rows at positions 6 and 7 look at three image tokens, and at four and five others.
    image, text = (3 / 7 + 3 / 8) / 2, (4 / 7 + 5 / 8) / 2
    without = (3 / 7 + 4 / 8) / 2
    assert torch.allclose(found[0, 1], torch.tensor([image / without, image / text]))


def test_a_sink_at_the_first_token_weighs_on_the_text_only_where_it_counts(answers):
    sink = torch.ones(2, 9, 9)
    sink[0, :, 0] = sink[1, :, 2] = 100.0
    found = ratios(divide(answers, PROMPT)(causal(answers, sink)))
    assert torch.allclose(found[:, 0, 0], torch.ones(2))
    assert torch.allclose(found[1, 0, 1], torch.tensor(1 / ((100 + 3) / 4)))


@pytest.mark.parametrize(("rows", "queries"), [("producing", [6, 7]), ("generated", [7, 8])])
def test_rows_are_those_that_produce_the_answer_or_those_of_the_answer(answers, rows, queries):
    weights = causal(answers, torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(0)))
    found = divide(answers, PROMPT, rows)(weights)
    image, text = [], []
    for query in queries:
        row = weights[0, 0, query]
        image.append(row[1:4].mean())
        others = [0, 4, 5, 6, 7, 8][: query - 2]
        text.append(row[others].mean())
    assert torch.allclose(found[0, 0, 1], torch.stack([sum(image), sum(text)]) / 2)


def test_what_a_short_answer_leaves_empty_does_not_count(answers):
    weights = torch.ones(2, 2, 9, 9)
    marked = weights.clone()
    marked[1, :, 7:] = float("nan")  # behind the only answer token's producing row
    division = divide(answers, PROMPT)
    found = division(marked.nan_to_num(5.0))
    assert torch.equal(found[1], division(weights)[1])


def test_a_modality_without_positions_has_no_mean(answers):
    answers.roles[1, 3] = int(X)
    found = divide(answers, PROMPT)(causal(answers, torch.ones(2, 9, 9)))
    assert found[1, 0, :, 0].isnan().all()
    assert ratios(found)[1, 0].isnan().all()
    assert ratios(found)[0].isfinite().all()
