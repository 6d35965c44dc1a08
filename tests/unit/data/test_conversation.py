"""Tokens of a conversation: the template's text, the roles, and a loss on answers only."""

from __future__ import annotations

import copy

import pytest

from layersight.data.conversation import IGNORE, IMAGE_TOKEN, Role, tokenize
from layersight.errors import DataError

PICTURE = {"from": "human", "value": "<image>\nWhat is this? Name it."}
ANSWER = {"from": "gpt", "value": "red circle"}


def text_of(tokens, tokenizer, keep):
    return tokenizer.decode(
        [t for t, r in zip(tokens.input_ids, tokens.roles, strict=True) if keep(r) and t >= 0]
    )


def test_the_tokens_are_the_chat_templates_text(tokenizer):
    tokens = tokenize([PICTURE, ANSWER], tokenizer, image_tokens=4, system_prompt="Be brief.")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "\nWhat is this? Name it."},
        {"role": "assistant", "content": "red circle"},
    ]
    expected = tokenizer.apply_chat_template(messages, tokenize=False).removesuffix("\n")
    assert text_of(tokens, tokenizer, lambda role: True) == expected
    assert tokens.input_ids.count(IMAGE_TOKEN) == 4


def test_loss_is_taken_on_every_answer_token_and_its_end_of_turn_and_on_nothing_else(tokenizer):
    conversation = [
        PICTURE,
        ANSWER,
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "yes"},
    ]
    tokens = tokenize(conversation, tokenizer, image_tokens=2, system_prompt="")
    answer = [
        *tokenizer("red circle", add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
        *tokenizer("yes", add_special_tokens=False)["input_ids"],
        tokenizer.eos_token_id,
    ]
    assert [label for label in tokens.labels if label != IGNORE] == answer
    for token, role, label in zip(tokens.input_ids, tokens.roles, tokens.labels, strict=True):
        assert label == (token if role == Role.ANSWER else IGNORE)


def test_the_users_words_alone_have_the_role_text(tokenizer):
    tokens = tokenize([PICTURE, ANSWER], tokenizer, image_tokens=2, system_prompt="Be brief.")
    words = text_of(tokens, tokenizer, lambda role: role == Role.TEXT)
    assert words.strip() == "What is this? Name it."


def test_a_message_that_also_occurs_in_the_template_is_found_where_it_stands(tokenizer):
    tokens = tokenize([{"from": "human", "value": "start"}], tokenizer, image_tokens=2)
    ids = tokenizer("start", add_special_tokens=False)["input_ids"]
    assert [t for t, r in zip(tokens.input_ids, tokens.roles, strict=True) if r == Role.TEXT] == ids
    assert tokens.input_ids[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")


def test_a_prompt_ends_with_the_templates_generation_prompt(tokenizer):
    tokens = tokenize([PICTURE], tokenizer, image_tokens=2, system_prompt="")
    assert text_of(tokens, tokenizer, lambda role: True).endswith("<|im_start|>assistant\n")
    assert Role.ANSWER not in tokens.roles


def test_a_template_that_changes_a_message_is_refused(tokenizer):
    shouting = copy.deepcopy(tokenizer)
    shouting.chat_template = tokenizer.chat_template.replace(
        "message['content']", "message['content'] | upper"
    )
    with pytest.raises(DataError, match="verbatim"):
        tokenize([PICTURE], shouting, image_tokens=2)


def test_an_unknown_speaker_is_refused(tokenizer):
    with pytest.raises(DataError, match="robot"):
        tokenize([{"from": "robot", "value": "hello"}], tokenizer, image_tokens=2)
