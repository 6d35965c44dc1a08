"""The order of batches, their parts, and several conversations in one row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.conftest import IMAGE_TOKENS, tiny_model

from layersight.data.collation import collate, collate_packed
from layersight.data.conversation import tokenize
from layersight.data.features import FeatureStore
from layersight.models.language import load_language_model
from layersight.models.vlm import VisionLanguageModel
from layersight.tuning.batching import TrainingBatches, batch_order, bins, padding_share, split

LENGTHS = [int(n) for n in np.random.default_rng(0).integers(5, 200, 203)]
PICTURED = [row % 3 > 0 for row in range(203)]


def ordered(group_by="modality_length", pictured=PICTURED, seed=1, size=8):
    lengths = LENGTHS[: len(pictured)]
    return batch_order(lengths, size, seed, group_by=group_by, pictured=pictured)


@pytest.mark.parametrize("group_by", ["length", "modality_length", "none"])
@pytest.mark.parametrize("size", [1, 8, 50, 500])
def test_every_row_comes_once_and_only_the_last_batches_are_not_full(group_by, size):
    order = ordered(group_by, size=size)
    assert sorted(row for batch in order for row in batch) == list(range(203))
    assert len(order) == -(-203 // size)
    assert sum(len(batch) < size for batch in order) == bool(203 % size)


@pytest.mark.parametrize("group_by", ["length", "modality_length", "none"])
def test_the_order_depends_on_the_seed_and_on_nothing_else(group_by):
    order = ordered(group_by)
    torch.manual_seed(5)
    assert ordered(group_by) == order != ordered(group_by, seed=2)


def test_batches_of_both_modalities_are_apart_but_for_what_is_left_over():
    order = ordered()
    kinds = [{PICTURED[row] for row in batch} for batch in order]
    # 135 rows with a picture and 68 without: 7 and 4 are left, a full batch and 3 rows.
    assert [len(kind) for kind in kinds[1:-1]] == [1] * 24
    assert kinds[0] == {True, False} and len(order[0]) == 8 and len(order[-1]) == 3
    assert 8 < sum(kind == {True} for kind in kinds[:20]) < 20  # both kinds all along


def test_rows_of_a_modality_are_longest_first_in_a_batch_and_of_any_place_in_the_table():
    order = ordered()[1:-1]
    for batch in order:
        assert [LENGTHS[row] for row in batch] == sorted((LENGTHS[r] for r in batch), reverse=True)
    assert max(max(batch) - min(batch) for batch in order) > 100


@pytest.mark.parametrize("kind", [True, False])
def test_a_table_of_one_modality_is_grouped_too(kind):
    order = ordered(pictured=[kind] * 20)
    assert [len(batch) for batch in order] == [8, 8, 4]


def test_grouping_by_modality_needs_the_modality():
    with pytest.raises(ValueError, match="if it has a picture"):
        batch_order(LENGTHS, 8, 1, group_by="modality_length")


def cost(part, lengths):
    return len(part) * max(lengths[row] for row in part)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("seed", range(5))
def test_a_split_holds_every_row_once_and_its_parts_cost_alike(parts, seed):
    lengths = np.random.default_rng(seed).integers(10, 300, 16).tolist()
    divided = split(range(16), lengths, parts)
    assert len(divided) == parts and all(divided)
    assert sorted(row for part in divided for row in part) == list(range(16))
    plain = [list(range(16))[i::parts] for i in range(parts)]
    worst = max(cost(part, lengths) for part in divided)
    assert worst <= max(cost(part, lengths) for part in plain)
    assert divided == split(range(16), lengths, parts)


def test_no_split_is_cheaper_than_the_one_found():
    # All splits of six rows into three parts, tried one by one.
    lengths = [90, 80, 30, 30, 10, 7]
    best = min(
        max(cost(part, lengths) for part in parts)
        for code in range(3**6)
        if all(parts := [[r for r in range(6) if code // 3**r % 3 == p] for p in range(3)])
    )
    assert max(cost(part, lengths) for part in split(range(6), lengths, 3)) == best


def test_one_part_keeps_the_order_of_its_batch_and_too_many_are_refused():
    assert split([5, 3, 9], [4, 8, 6], 1) == [[5, 3, 9]]
    with pytest.raises(ValueError, match="2 rows cannot be split into 3 parts"):
        split([1, 2], [5, 5], 3)


def test_bins_hold_every_conversation_once_and_no_more_than_they_can():
    lengths = [60, 10, 40, 50, 30, 10]
    packed = bins(lengths, 100)
    assert sorted(index for row in packed for index in row) == list(range(6))
    assert packed == [[0, 2], [3, 4, 1, 5]]
    assert bins([120, 10], 100) == [[0], [1]]


def test_the_padding_share_counts_positions_that_no_row_uses():
    assert padding_share([[0, 1], [2]], [4, 2, 3]) == pytest.approx(2 / 11)
    assert padding_share([[0, 1, 2]], [4, 2, 2]) == pytest.approx(4 / 12)
    assert padding_share([[0, 1, 2]], [4, 2, 2], capacity=1) == 0.0
    assert padding_share([[0, 1, 2]], [4, 2, 2], parts=2) == 0.0
    grouped, mixed = (padding_share(ordered(by), LENGTHS) for by in ("length", "none"))
    assert grouped < mixed / 3


CONVERSATIONS = [
    ("<image>\nWhich kind of thing is this?", "round", "a"),
    ("Is there a red circle in this picture, or is there none at all?", "no", None),
    ("<image>", "a red circle in this picture", "b"),
    ("<image>\nIs there a red circle?", "yes", "c"),
    ("Round?", "no, pointed", None),
]


@pytest.fixture(scope="module")
def rows(tokenizer):
    return [
        tokenize(
            [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
            tokenizer,
            image_tokens=IMAGE_TOKENS,
            system_prompt="",
        )
        for question, answer, _ in CONVERSATIONS
    ]


IMAGES = [image for _, _, image in CONVERSATIONS]
PACKED = [[1, 3], [2, 0, 4]]


def hidden(model: VisionLanguageModel, batch) -> torch.Tensor:
    decoder = model.language_model.get_decoder()
    return decoder(
        inputs_embeds=model.embed(batch),
        attention_mask=batch.attention(torch.float32),
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state


def mean_loss(model: VisionLanguageModel, batch) -> torch.Tensor:
    targets = batch.labels[:, 1:]
    chosen = targets != -100
    logits = model.head(hidden(model, batch)[:, :-1][chosen])
    return torch.nn.functional.cross_entropy(logits, targets[chosen])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_batch_has_the_loss_and_the_gradient_of_the_padded_one(
    tiny_folder, rows, feature_store, attention
):
    model = tiny_model(tiny_folder, 0)
    language_model, _ = load_language_model(tiny_folder, dtype=torch.float32, attention=attention)
    model = VisionLanguageModel(language_model, model.connector).requires_grad_(True)
    padded = collate(rows, IMAGES, feature_store, padding="right", pad_token=2, labels=True)
    packed = collate_packed(rows, IMAGES, feature_store, PACKED, pad_token=2, labels=True)
    assert packed.input_ids.numel() < padded.input_ids.numel()
    found = []
    for batch in (padded, packed):
        loss = mean_loss(model, batch)
        model.zero_grad()
        loss.backward()
        found.append((loss.item(), {n: p.grad.clone() for n, p in model.named_parameters()}))
    (loss, gradients), (packed_loss, packed_gradients) = found
    assert packed_loss == pytest.approx(loss, abs=1e-5)
    assert loss == pytest.approx(model.loss(padded)[0].item(), abs=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(packed_gradients[name], gradient, atol=1e-5, rtol=1e-4)


def test_a_conversation_in_a_packed_row_does_not_see_its_neighbours(
    tiny_folder, rows, feature_store
):
    model = tiny_model(tiny_folder, 0)
    alone = collate(rows[4:], [None], None, padding="right", pad_token=2)
    packed = collate_packed(rows, IMAGES, feature_store, PACKED, pad_token=2)
    where = packed.segments[1] == 3
    assert packed.input_ids[1, where].tolist() == rows[4].input_ids
    torch.testing.assert_close(hidden(model, packed)[1, where], hidden(model, alone)[0])
    # The same tokens as one conversation: other hidden states, so the mask does matter.
    packed.segments = None
    assert not torch.allclose(hidden(model, packed)[1, where], hidden(model, alone)[0], atol=1e-3)


def test_positions_and_counts_start_anew_in_every_conversation(rows, feature_store):
    packed = collate_packed(rows, IMAGES, feature_store, PACKED, pad_token=2)
    expected = [n for index in PACKED[1] for n in range(len(rows[index].input_ids))]
    assert packed.positions[1, : len(expected)].tolist() == expected
    assert packed.positions[1, len(expected) :].eq(0).all()
    answers = packed.running_count(packed.roles == 4)[1, : len(expected)].tolist()
    starts = np.cumsum([0] + [len(rows[index].input_ids) for index in PACKED[1]])[:-1]
    assert [answers[start] for start in starts] == [0, 0, 0]
    assert max(answers) == max(sum(r == 4 for r in rows[i].roles) for i in PACKED[1])


def test_the_mask_of_a_batch_that_is_not_packed_is_that_of_its_padding(rows, feature_store):
    batch = collate(rows, IMAGES, feature_store, padding="left", pad_token=2)
    assert batch.attention(torch.float32) is batch.attention_mask
    assert batch.positions[0].equal((batch.attention_mask[0].cumsum(-1) - 1).clamp(min=0))


def test_the_first_token_of_a_conversation_is_nobody_s_target(feature_store, rows):
    packed = collate_packed(rows, IMAGES, feature_store, PACKED, pad_token=2, labels=True)
    first = packed.positions == 0
    assert packed.labels[first].eq(-100).all()
    assert packed.to(torch.device("cpu")).segments.equal(packed.segments)


@pytest.mark.parametrize("capacity", [None, 64])
def test_the_parts_of_a_step_hold_the_conversations_of_its_batch(
    rows, feature_store: FeatureStore, capacity
):
    batches = TrainingBatches(
        [[4, 0, 2, 1], [3]], rows, IMAGES, feature_store, 2, capacity=capacity
    )
    assert len(batches) == 2
    whole, parts = batches[0], [batches.part(0, index, 2) for index in range(2)]
    answers = [int((batch.labels[:, 1:] != -100).sum()) for batch in (whole, *parts)]
    assert answers[0] == answers[1] + answers[2] > 0
    assert sum(int(part.attention_mask.sum()) for part in parts) == int(whole.attention_mask.sum())
    assert sum(0 if part.features is None else len(part.features) for part in parts) == 2
    assert (whole.segments is None) == (capacity is None)


class Counted(list):
    """A list that remembers which of its items were asked for."""

    def __init__(self, items) -> None:
        super().__init__(items)
        self.asked: list[int] = []

    def __getitem__(self, index):
        self.asked.append(index)
        return super().__getitem__(index)


@pytest.mark.parametrize("known", [False, True])
def test_a_row_is_read_once_for_all_parts_and_only_where_it_is_needed(rows, feature_store, known):
    counted = Counted(rows)
    lengths = [len(row.input_ids) for row in rows] if known else None
    batches = TrainingBatches([[4, 0, 2, 1]], counted, IMAGES, feature_store, 2, lengths=lengths)
    first = batches.part(0, 0, 2)
    assert len(counted.asked) == (len(first.input_ids) if known else 4) < 5
    second = batches.part(0, 1, 2)
    assert sorted(counted.asked) == [0, 1, 2, 4]
    plain = TrainingBatches([[4, 0, 2, 1]], rows, IMAGES, feature_store, 2)
    assert plain.part(0, 1, 2).input_ids.equal(second.input_ids)
    assert len(first.input_ids) + len(second.input_ids) == 4
