"""Numbers in sentences: how they are written, and what may be claimed of an interval."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from layersight.reporting.lineup import Lineup


def two(first: str, second: str) -> str:
    """Join two sentences.

    Raises:
        ValueError: a part is not exactly one sentence.
    """
    text = f"{_one(first)} {_one(second)}"
    if len(sentences_of(text)) != 2:
        raise ValueError(f"not two sentences: {text!r}")
    return text


def sentences_of(text: str) -> list[str]:
    """Split a text into its sentences: a full stop, a space and a capital end one."""
    return re.split(r"(?<=[.])\s+(?=[A-Z])", text.strip())


def _one(sentence: str) -> str:
    sentence = sentence.strip()
    return (sentence[:1].upper() + sentence[1:]).rstrip(".") + "."


def number(value: float, *, signed: bool = False) -> str:
    """Write a number with two decimals, or two significant digits if it is small."""
    if math.isnan(value):
        return "undefined"
    if value and abs(value) < 0.1:
        digits = 2 - math.ceil(math.log10(abs(value)))
        text = f"{abs(value):.{min(max(digits, 2), 5)}f}"
    else:
        text = f"{abs(value):.{1 if abs(value) >= 10 else 2}f}"
    is_zero = float(text) == 0
    if value < 0 and not is_zero:
        return "−" + text
    return "+" + text if signed and not is_zero else text


def fixed(value: float) -> str:
    """Write a number with two decimals, as columns of numbers need it."""
    text = f"{abs(value):.2f}"
    return "−" + text if value < 0 and float(text) else text


def ends(row: Any) -> str:
    """Write the ends of a row's interval."""
    if math.isnan(row.low) or math.isnan(row.high):
        return "no interval"
    return f"{number(row.low)} to {number(row.high)}"


def with_band(row: Any, lineup: Lineup) -> str:
    """Write a value with its interval and say which interval it is."""
    return f"{number(row.value)} ({lineup.band_of(row.variant)} {ends(row)})"


def short(row: Any) -> str:
    """Write a value with its interval."""
    return f"{number(row.value)} ({ends(row)})"


def overlap(first: Any, second: Any) -> bool:
    """Whether two intervals overlap; true also where one is missing: nothing is shown then."""
    return not (first.high < second.low or second.high < first.low)


def compared(first: Any, second: Any, lineup: Lineup) -> str:
    """Say whether the first value lies above or below the second, judged by their intervals."""
    if overlap(first, second):
        return f"does not differ clearly (the {lineup.bands} overlap)"
    return "is higher" if first.value > second.value else "is lower"


def includes(row: Any, value: float) -> bool:
    """Whether an interval includes a value; true also where it is missing."""
    return not (row.low > value or row.high < value)


def listed(parts: Sequence[str]) -> str:
    """Join with semicolons."""
    return "; ".join(parts)


def sample_of(frame: pd.DataFrame, value: str = "value") -> str:
    """Write the sample sizes of the defined numbers, or of all if none is defined."""
    defined = frame[frame[value].notna()]
    return sample((defined if len(defined) else frame)["n"])


def sample(numbers: pd.Series) -> str:
    """Write sample sizes: `n = 96`, or a range."""
    low, high = int(numbers.min()), int(numbers.max())
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def largest(table: pd.DataFrame, column: str = "value") -> Any:
    """Return the row with the largest defined number, as a named tuple; None if there is none."""
    defined = table[table[column].notna()]
    if defined.empty:
        return None
    return next(defined.loc[[defined[column].idxmax()]].itertuples(index=False))


def smallest(table: pd.DataFrame, column: str = "value") -> Any:
    """Return the row with the smallest defined number, as a named tuple; None if there is none."""
    defined = table[table[column].notna()]
    if defined.empty:
        return None
    return next(defined.loc[[defined[column].idxmin()]].itertuples(index=False))
