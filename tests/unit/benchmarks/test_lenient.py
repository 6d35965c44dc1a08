"""The lenient rule against examples worked out from its published words."""

from __future__ import annotations

import pytest

from layersight.benchmarks.lenient import lenient_match, lenient_score, letter_match, spelt


@pytest.mark.parametrize(
    ("prediction", "references", "score"),
    [
        ("Two", ["two"], 1.0),
        ("There are 2 dogs.", ["two"], 1.0),
        ("two", ["2"], 1.0),
        ("10", ["ten"], 1.0),
        ("1", ["ten"], 0.0),
        ("bus", ["school bus"], 1.0),
        ("a school bus", ["bus"], 1.0),
        ("woman", ["man"], 1.0),  # as published
        ("cat", ["dog"], 0.0),
        ("cat", ["dog", "CAT "], 1.0),
        ("", ["dog"], 0.0),
        (" \n", ["dog"], 0.0),
    ],
)
def test_a_free_answer_is_right_if_either_side_holds_the_other(prediction, references, score):
    assert lenient_match(prediction, references) == score


def test_ten_is_spelt_before_one_and_longer_numbers_digit_by_digit():
    assert [spelt(text) for text in ("10", "1", "12", "100", " 7 Cats")] == [
        "ten", "one", "onetwo", "tenzero", "seven cats",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("prediction", "letter", "score"),
    [("B", "B", 1.0), (" (B)", "B", 1.0), ("b", "B", 0.0), ("A", "B", 0.0), ("", "A", 0.0)],
)
def test_a_choice_is_right_if_its_letter_is_in_the_answer(prediction, letter, score):
    assert letter_match(prediction, letter) == score
    assert lenient_score(prediction, [letter], ["A", "B"]) == score


def test_references_must_be_a_list_with_something_in_it():
    with pytest.raises(ValueError, match="references is empty"):
        lenient_match("x", [])
    with pytest.raises(TypeError, match="is the string 'two'"):
        lenient_match("x", "two")
