"""Answers that begin with given words, from which the model goes on."""

from __future__ import annotations

import pytest
from tests.conftest import IMAGE_TOKENS

from layersight.data.conversation import OPENING, Role, tokenize
from layersight.data.rows import RowReader
from layersight.errors import DataError

ASKED = {"from": "human", "value": "<image>\nWhich kind?"}
BEGUN = [ASKED, {"from": OPENING, "value": "round:"}]


def tokens_of(turns, tokenizer, template):
    return tokenize(
        turns, tokenizer, image_tokens=IMAGE_TOKENS, system_prompt="", template=template
    )


@pytest.mark.parametrize("template", ["chat", "v1", "phi"])
def test_the_prompt_goes_on_with_the_opening_and_nothing_closes_it(tokenizer, template):
    asked = tokens_of([ASKED], tokenizer, template)
    begun = tokens_of(BEGUN, tokenizer, template)
    answered = tokens_of([ASKED, {"from": "gpt", "value": "round:"}], tokenizer, template)
    size = len(asked.input_ids)
    assert begun.input_ids[:size] == asked.input_ids
    said = tokenizer.decode(begun.input_ids[size:])
    assert said.strip() == "round:" and not said.endswith((" ", "\n"))
    length = len(begun.input_ids)
    assert answered.input_ids[:length] == begun.input_ids
    assert len(answered.input_ids) > length  # there what closes the answer follows
    assert set(begun.roles[size:]) == {int(Role.TEMPLATE)}
    assert int(Role.ANSWER) not in begun.roles


def test_a_row_may_end_so_where_the_answer_is_left_to_the_model_alone(smoke, tokenizer, tmp_path):
    row = {"item_id": "a", "image_id": "x", "conversations": BEGUN}
    reader = RowReader(smoke, tokenizer, IMAGE_TOKENS, None, answered=False)
    assert reader.tokens(row, tmp_path).roles[-1] == int(Role.TEMPLATE)
    trains = RowReader(smoke, tokenizer, IMAGE_TOKENS, None, answered=True)
    with pytest.raises(DataError, match="the conversation has no answer"):
        trains.tokens(row, tmp_path)
