"""Scores of single answers and of sets of answers."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pycocoevalcap.cider.cider import Cider

ARTICLES = frozenset({"a", "an", "the"})
APOSTROPHES = frozenset("'’‘`´")


@dataclass(frozen=True)
class PopeScores:
    """POPE's five numbers, each in 0..1, with "yes" as the positive class."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_ratio: float


def yes_no(text: str) -> str:
    """Read a free answer as "yes" or "no" by POPE's published rule.

    Text before the first full stop, commas removed, split at single spaces: "no" if one of the
    words is `No`, `not` or `no`, else "yes" (Li et al., 2023, "Evaluating Object Hallucination in
    Large Vision-Language Models", `evaluate.py`; the same in LLaVA's `eval_pope.py`). The rule is
    kept as published: "NO", "Nope" and the empty string all count as "yes".

    Args:
        text: the answer as generated.

    Returns:
        "yes" or "no".
    """
    words = text.split(".", maxsplit=1)[0].replace(",", "").split(" ")
    return "no" if "No" in words or "not" in words or "no" in words else "yes"


def pope_scores(predictions: Sequence[str], answers: Sequence[str]) -> PopeScores:
    """POPE's scores of one set of questions (Li et al., 2023, section 5.1).

    Args:
        predictions: n answers as generated, read by `yes_no`.
        answers: n right answers, each "yes" or "no".

    Returns:
        The scores over the n questions. Precision without a predicted "yes", recall without a
        right "yes" and F1 without either are 0/0 and given as 0, as scikit-learn does.

    Raises:
        ValueError: no question, unequal lengths, or a right answer that is neither "yes" nor "no".
    """
    if len(predictions) != len(answers):
        raise ValueError(f"{len(predictions)} predictions for {len(answers)} answers")
    if not answers:
        raise ValueError("no question to score; at least one is needed")
    unknown = sorted(set(answers) - {"yes", "no"})
    if unknown:
        raise ValueError(f'right answers must be "yes" or "no"; found {unknown[:3]}')
    pairs = [
        (yes_no(text) == "yes", answer == "yes")
        for text, answer in zip(predictions, answers, strict=True)
    ]
    true_yes = sum(said and right for said, right in pairs)
    said_yes = sum(said for said, _ in pairs)
    right_yes = sum(right for _, right in pairs)
    return PopeScores(
        accuracy=sum(said == right for said, right in pairs) / len(pairs),
        precision=true_yes / said_yes if said_yes else 0.0,
        recall=true_yes / right_yes if right_yes else 0.0,
        f1=2 * true_yes / (said_yes + right_yes) if said_yes + right_yes else 0.0,
        yes_ratio=said_yes / len(pairs),
    )


def normalise_answer(text: str) -> str:
    """Reduce a short answer to what is compared.

    Only the first line that is not blank is kept, in Unicode form NFKC and lower case.
    Apostrophes vanish ("don't" is "dont"); other punctuation becomes a blank, so that
    "traffic-light" is "traffic light". Leading articles go as long as a word follows (the answer
    "A" stays "a"), and runs of blanks collapse. Applying it twice changes nothing.

    Args:
        text: an answer or a reference.

    Returns:
        Words separated by single blanks; empty if nothing is left.
    """
    lines = text.strip().splitlines()
    line = unicodedata.normalize("NFKC", lines[0] if lines else "").lower()
    # Lower-casing may leave letters and their marks apart: the dot of a capital I, for one.
    line = unicodedata.normalize("NFKC", line)
    kept = (
        "" if sign in APOSTROPHES else " " if unicodedata.category(sign).startswith("P") else sign
        for sign in line
    )
    words = "".join(kept).split()
    while len(words) > 1 and words[0] in ARTICLES:
        del words[0]
    return " ".join(words)


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the normalised answer equals one of the normalised references, else 0.0.

    Args:
        prediction: the answer as generated.
        references: the accepted answers, at least one.

    Returns:
        1.0 or 0.0. An answer with nothing left after normalisation never matches.

    Raises:
        ValueError: no reference.
        TypeError: a single string in place of a sequence of them.
    """
    if isinstance(references, str):
        raise TypeError(f"references is the string {references!r}; a sequence of them is needed")
    if not references:
        raise ValueError("references is empty; at least one accepted answer is needed")
    answer = normalise_answer(prediction)
    return float(bool(answer) and answer in {normalise_answer(text) for text in references})


def cider(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]
) -> tuple[float, dict[str, float]]:
    """CIDEr-D of short texts, times ten, as pycocoevalcap computes it.

    Vedantam, Lawrence and Parikh, 2015, equation 3: cosines of tf-idf vectors of 1- to 4-grams with
    clipped counts and a Gaussian penalty on the difference in length (sigma 6), averaged over
    references and the four lengths. Document frequencies come from the references of exactly the
    ids given, so scores compare only between subjects scored on the same ids.

    The usual PTB tokeniser runs in Java; the light tokens here are the words of `normalise_answer`,
    on both sides, so scores differ a little from those of the COCO caption server.

    A text of w < 4 words has no n-grams longer than w, and those lengths count as nought: with one
    reference, the right one-word answer scores 2.5, two words 5, three 7.5, and only four words or
    more reach 10. A word in the references of every id has no weight at all.

    Args:
        predictions: one text for each id.
        references: reference texts for each id.

    Returns:
        The mean over ids and the score of each id, in 0..10, in the order of `predictions`.

    Raises:
        ValueError: fewer than two ids, ids that differ between the two, or an id without a
            reference that has a word in it.
        TypeError: references of an id are a single string.
    """
    if predictions.keys() != references.keys():
        differing = sorted(predictions.keys() ^ references.keys(), key=str)
        raise ValueError(
            f"predictions and references differ in {len(differing)} ids, such as {differing[:3]}"
        )
    if len(predictions) < 2:
        raise ValueError(
            f"CIDEr needs at least two ids for its document frequencies; got {len(predictions)}"
        )
    tokenised: dict[str, list[str]] = {}
    for item, texts in references.items():
        if isinstance(texts, str):
            raise TypeError(f"references of {item!r} are one string; a list of texts is needed")
        tokenised[item] = [normalise_answer(text) for text in texts]
        if not any(tokenised[item]):
            raise ValueError(f"id {item!r} has no reference with a word in it")
    candidates = {item: [normalise_answer(text)] for item, text in predictions.items()}
    # The class pairs scores with ids by the order of its first argument.
    ordered = {item: tokenised[item] for item in predictions}
    corpus, scores = Cider().compute_score(ordered, candidates)
    return float(corpus), {
        item: float(score) for item, score in zip(predictions, scores, strict=True)
    }
