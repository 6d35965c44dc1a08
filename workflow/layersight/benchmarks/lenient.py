"""The lenient rule for short answers, as the thesis "How LLaVA Learns to See" scores them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
)  # fmt: skip
# "10" before "1": it would become "onezero".
_NUMBERS = {"10": "ten"} | {str(number): word for number, word in enumerate(_WORDS)}


def spelt(text: str) -> str:
    """Return a text in lower case without blanks around it, digits written as words.

    "10" becomes "ten" before "1" becomes "one"; of longer numbers every digit becomes a word.
    """
    text = text.strip().lower()
    return re.sub("|".join(_NUMBERS), lambda found: _NUMBERS[found[0]], text)


def lenient_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if an answer holds one of the references, or is held by one, else 0.0.

    Both sides as `spelt` writes them: "There are 2 dogs." holds "two", and "bus" is in "school
    bus". So does "man" in "woman": the rule is kept as published, beside the exact one.

    Args:
        prediction: the answer as generated.
        references: the accepted answers, at least one.

    Returns:
        1.0 or 0.0. An empty answer never matches.

    Raises:
        ValueError: no reference.
        TypeError: a single string in place of a sequence of them.
    """
    _check(references)
    said = spelt(prediction)
    return float(bool(said) and any(ref in said or said in ref for ref in map(spelt, references)))


def letter_match(prediction: str, letter: str) -> float:
    """1.0 if an answer holds the right choice's letter as a capital, else 0.0.

    Args:
        prediction: the answer as generated.
        letter: of the right choice.
    """
    return float(letter in prediction)


def lenient_score(prediction: str, references: Sequence[str], choices: Sequence[str]) -> float:
    """Score an answer leniently: by its letter where there are choices, else by its words.

    Args:
        prediction: the answer as generated.
        references: accepted answers; with choices the right one's letter alone.
        choices: letters of the choices; empty where the answer is free.
    """
    if choices:
        _check(references)
        return letter_match(prediction, references[0])
    return lenient_match(prediction, references)


def _check(references: Sequence[str]) -> None:
    if isinstance(references, str):
        raise TypeError(f"references is the string {references!r}; a sequence of them is needed")
    if not references:
        raise ValueError("references is empty; at least one accepted answer is needed")
