"""One random token of each modality, in both orders of image and question."""

from __future__ import annotations

import pytest
import torch
from tests.conftest import IMAGE_TOKENS, QUESTIONS, tiny_model

from layersight.activations.capture import capture
from layersight.activations.streams import image_last, one_tokens, passes
from layersight.data.collation import collate
from layersight.data.conversation import IMAGE_TOKEN, Role, Tokens, tokenize
from layersight.seeds import derive_seed

ITEMS = [f"item-{number}" for number in range(60)]


@pytest.fixture(params=["chat", "v1", "phi"])
def template(request):
    return request.param


def tokens_of(question, tokenizer, template="chat"):
    return tokenize(
        [{"from": "human", "value": question}],
        tokenizer,
        image_tokens=IMAGE_TOKENS,
        system_prompt="",
        template=template,
    )


def test_the_reversed_order_has_the_image_after_the_question_in_every_template(tokenizer, template):
    tokens = tokens_of(QUESTIONS[0], tokenizer, template)
    turned = image_last(tokens)

    def where(row, role):
        return [index for index, found in enumerate(row.roles) if found == role]

    images, words = where(tokens, Role.IMAGE), where(tokens, Role.TEXT)
    assert max(images) < min(words)
    images, words = where(turned, Role.IMAGE), where(turned, Role.TEXT)
    assert len(images) == IMAGE_TOKENS and max(words) + 1 == min(images)
    assert all(turned.input_ids[index] == IMAGE_TOKEN for index in images)
    # The words, and what the template puts around the turn, stay as they are.
    for role in (Role.TEXT, Role.TEMPLATE):
        plain = [tokens.input_ids[index] for index in where(tokens, role)]
        assert [turned.input_ids[index] for index in where(turned, role)] == plain
    first, last = min(where(tokens, Role.IMAGE)), max(where(tokens, Role.TEXT)) + 1
    assert turned.roles[:first] == tokens.roles[:first]
    assert turned.roles[last:] == tokens.roles[last:]


def test_the_reversed_order_is_what_the_tokenizer_makes_of_the_reversed_text(tokenizer):
    plain = tokens_of("<image>Is there a red circle?", tokenizer)
    assert image_last(plain) == tokens_of("Is there a red circle?<image>", tokenizer)


def test_only_the_turn_with_the_image_is_reversed():
    template, text, image = int(Role.TEMPLATE), int(Role.TEXT), int(Role.IMAGE)
    tokens = Tokens(
        list(range(9)),
        [template, text, template, text, image, image, text, template, text],
    )
    assert image_last(tokens).input_ids == [0, 1, 2, 3, 6, 4, 5, 7, 8]


def test_without_an_image_or_without_words_there_is_one_order_only(tokenizer, template):
    for question in ("Is there a red circle?", QUESTIONS[2]):
        tokens = tokens_of(question, tokenizer, template)
        assert image_last(tokens) == tokens


def test_the_drawn_tokens_are_of_their_modality_and_the_same_ones_in_both_orders(
    tokenizer, template
):
    tokens = tokens_of(QUESTIONS[0], tokenizer, template)
    turned = image_last(tokens)
    for item in ITEMS:
        for row in (tokens, turned):
            found = one_tokens(row, 7, "visual_questions", item)
            assert row.roles[found["one_image"]] == Role.IMAGE
            assert row.roles[found["one_text"]] == Role.TEXT
        plain, other = (one_tokens(r, 7, "visual_questions", item) for r in (tokens, turned))
        # The same word, and the same patch counted from the image's first.
        assert tokens.input_ids[plain["one_text"]] == turned.input_ids[other["one_text"]]
        first, moved = tokens.roles.index(Role.IMAGE), turned.roles.index(Role.IMAGE)
        assert plain["one_image"] - first == other["one_image"] - moved
        assert plain["one_text"] - other["one_text"] == IMAGE_TOKENS


def test_every_token_of_a_modality_is_drawn_about_as_often_as_the_others(tokenizer):
    from scipy.stats import chisquare

    tokens = tokens_of(QUESTIONS[0], tokenizer)
    drawn = [one_tokens(tokens, 0, "p", f"i{number}") for number in range(1200)]
    for stream, role in (("one_image", Role.IMAGE), ("one_text", Role.TEXT)):
        places = [index for index, found in enumerate(tokens.roles) if found == role]
        counts = [sum(found[stream] == index for found in drawn) for index in places]
        assert sum(counts) == 1200
        assert chisquare(counts).pvalue > 1e-3


def test_the_draw_depends_on_seed_probe_set_item_and_modality_by_name():
    tokens = Tokens(list(range(200)), [int(Role.IMAGE)] * 100 + [int(Role.TEXT)] * 100)
    found = one_tokens(tokens, 3, "visual_questions", "cat")
    seed = derive_seed(3, "activations/one_image/visual_questions/cat")
    assert found["one_image"] == seed % 100
    seed = derive_seed(3, "activations/one_text/visual_questions/cat")
    assert found["one_text"] == 100 + seed % 100
    for changed in ((4, "visual_questions", "cat"), (3, "pair_images", "cat"), (3, "x", "dog")):
        assert one_tokens(tokens, *changed) != found


def test_a_probe_without_a_picture_has_a_text_token_alone(tokenizer):
    assert set(one_tokens(tokens_of("red circle", tokenizer), 0, "p", "i")) == {"one_text"}
    assert set(one_tokens(tokens_of(QUESTIONS[2], tokenizer), 0, "p", "i")) == {"one_image"}


def test_reversed_streams_take_a_second_pass_and_all_comes_with_the_first(smoke):
    settings = smoke.activations.model_copy(update={"streams": ["last", "one", "all"]})
    found = passes([*settings.stored, "all"])
    assert [(run.image_last, run.pooled, run.every) for run in found] == [
        (False, ("last", "one_image", "one_text"), True),
        (True, ("one_image_reversed", "one_text_reversed"), False),
    ]
    assert [run.pooled for run in passes(["last", "text_mean"])] == [("last", "text_mean")]


def test_question_first_no_word_sees_the_image_and_every_image_token_sees_the_question(
    tiny_folder, tokenizer, feature_store
):
    model = tiny_model(tiny_folder, 0)
    question = tokens_of(QUESTIONS[1], tokenizer)

    def last_layer(tokens, picture, stream):
        batch = collate([tokens], [picture], feature_store, padding="left", pad_token=2)
        column = torch.tensor([one_tokens(tokens, 0, "p", "i")[stream]])
        found, _ = capture(model, batch, [stream], columns={stream: column})
        return found["residual"].pooled[-1, 0, 0]

    turned = image_last(question)
    assert torch.equal(last_layer(turned, "a", "one_text"), last_layer(turned, "b", "one_text"))
    assert not torch.allclose(
        last_layer(question, "a", "one_text"), last_layer(question, "b", "one_text")
    )
    other = image_last(tokens_of(QUESTIONS[1].replace("red", "angular"), tokenizer))
    assert not torch.allclose(
        last_layer(turned, "a", "one_image"), last_layer(other, "a", "one_image")
    )
