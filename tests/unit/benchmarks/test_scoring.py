import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

import layersight.benchmarks.scoring
from layersight.benchmarks.scoring import (
    cider,
    exact_match,
    normalise_answer,
    pope_scores,
    yes_no,
)

ANSWERS = {
    "Yes, there is a dog in the picture.": "yes",
    "No, there is no dog.": "no",
    "no": "no",
    "There is not a dog here": "no",
    "No,": "no",
    # What the rule reads otherwise than a person would, kept as published.
    "NO": "yes",
    "Nope": "yes",
    "": "yes",
    "no\n": "yes",
    "A dog. There is no cat": "yes",
    "I know of none, nothing": "yes",
}


@pytest.mark.parametrize(("text", "expected"), ANSWERS.items())
def test_yes_no_follows_popes_rule(text: str, expected: str) -> None:
    assert yes_no(text) == expected


def test_yes_no_reads_its_own_words() -> None:
    assert [yes_no("yes"), yes_no("no")] == ["yes", "no"]


@pytest.mark.parametrize("share_of_yes", [0.1, 0.5, 0.9])
def test_pope_scores_are_scikit_learns(share_of_yes: float) -> None:
    rng = np.random.default_rng(3)
    answers = np.where(rng.random(200) < 0.4, "yes", "no").tolist()
    said = np.where(rng.random(200) < share_of_yes, "yes", "no").tolist()
    texts = ["Yes, I see it." if word == "yes" else "No, it is absent." for word in said]
    precision, recall, f1, _ = precision_recall_fscore_support(
        answers, said, pos_label="yes", average="binary"
    )
    found = pope_scores(texts, answers)
    assert found.accuracy == pytest.approx(accuracy_score(answers, said))
    assert (found.precision, found.recall, found.f1) == pytest.approx((precision, recall, f1))
    assert found.yes_ratio == pytest.approx(said.count("yes") / 200)


@pytest.mark.parametrize(
    ("said", "answers"), [("no", ["yes", "no"]), ("yes", ["no", "no"]), ("no", ["no", "no"])]
)
def test_pope_scores_of_nothing_by_nothing_are_nought(said: str, answers: list[str]) -> None:
    precision, recall, f1, _ = precision_recall_fscore_support(
        answers, [said] * 2, labels=["yes"], zero_division=0.0
    )
    found = pope_scores([said] * 2, answers)
    assert (found.precision, found.recall, found.f1) == (precision[0], recall[0], f1[0])


def test_pope_scores_refuse_what_they_cannot_score() -> None:
    with pytest.raises(ValueError, match="2 predictions for 1"):
        pope_scores(["yes", "no"], ["yes"])
    with pytest.raises(ValueError, match="Yes"):
        pope_scores(["yes"], ["Yes"])
    with pytest.raises(ValueError, match="no question"):
        pope_scores([], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The Traffic-Light!  ", "traffic light"),
        ("a dog\nand a cat", "dog"),
        ("\n\nDog", "dog"),
        ("A", "a"),
        ("the a cat", "cat"),
        ("man on the moon", "man on the moon"),
        ("don't", "dont"),
        ("ＤＯＧ\u00a0ﬁsh", "dog fish"),
        ("Cafe\u0301", "café"),
        ("«¡perro!»", "perro"),
        ("...", ""),
        ("", ""),
    ],
)
def test_normalised_answer(text: str, expected: str) -> None:
    assert normalise_answer(text) == expected
    assert normalise_answer(normalise_answer(text)) == expected


def test_exact_match_takes_any_reference() -> None:
    assert exact_match("A sofa.", ["couch", "the Sofa"]) == 1.0
    assert exact_match("sofa bed", ["couch", "sofa"]) == 0.0
    assert exact_match("", ["!", "couch"]) == 0.0
    with pytest.raises(ValueError, match="references"):
        exact_match("sofa", [])
    with pytest.raises(TypeError, match="references"):
        exact_match("sofa", "sofa")


REFERENCES = {
    "b": ["a black dog runs on the beach", "dog running along a beach by the sea"],
    "a": ["two children play football", "kids with a ball on green grass"],
    "c": ["a red bus stops in the street"],
}
PREDICTIONS = {
    "c": "red bus parked in the street",
    "a": "children play with a red ball",
    "b": "black dog runs on the beach",
}


def test_cider_is_pycocoevalcaps_on_tokenised_text() -> None:
    # Texts without capitals, punctuation or a leading article are left as they are.
    references = {
        key: [text.removeprefix("a ") for text in texts] for key, texts in REFERENCES.items()
    }
    corpus, scores = Cider().compute_score(
        references, {key: [PREDICTIONS[key]] for key in references}
    )
    found, by_item = cider(PREDICTIONS, REFERENCES)
    assert found == pytest.approx(corpus)
    assert by_item == pytest.approx(dict(zip(references, scores, strict=True)))
    assert len({round(score, 6) for score in by_item.values()}) == 3


def test_cider_ignores_capitals_and_punctuation() -> None:
    loud = {key: f"The {text.upper()}!" for key, text in PREDICTIONS.items()}
    assert cider(loud, REFERENCES) == cider(PREDICTIONS, REFERENCES)


def test_cider_of_a_perfect_answer_grows_with_its_words_up_to_ten() -> None:
    words = ["one", "two", "three", "four", "five"]
    for count, expected in ((1, 2.5), (2, 5.0), (3, 7.5), (4, 10.0), (5, 10.0)):
        text = " ".join(words[:count])
        _, scores = cider({"x": text, "y": "else"}, {"x": [text], "y": ["other"]})
        assert scores == pytest.approx({"x": expected, "y": 0.0})


def test_cider_refuses_what_it_cannot_weigh() -> None:
    with pytest.raises(ValueError, match="two ids"):
        cider({"x": "dog"}, {"x": ["dog"]})
    with pytest.raises(ValueError, match="differ in 2 ids"):
        cider({"x": "dog", "y": "cat"}, {"x": ["dog"], "z": ["cat"]})
    with pytest.raises(ValueError, match="'y' has no reference"):
        cider({"x": "dog", "y": "cat"}, {"x": ["dog"], "y": ["!"]})
    with pytest.raises(TypeError, match="'y' are one string"):
        cider({"x": "dog", "y": "cat"}, {"x": ["dog"], "y": "cat"})


def test_cider_runs_where_there_is_no_java() -> None:
    source = Path(layersight.benchmarks.scoring.__file__).parents[2]
    command = (
        "from layersight.benchmarks.scoring import cider;"
        "print(cider({'x': 'dog', 'y': 'cat'}, {'x': ['dog'], 'y': ['cat']})[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={"PYTHONPATH": str(source), "PATH": "", "JAVA_HOME": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) == pytest.approx(2.5)
