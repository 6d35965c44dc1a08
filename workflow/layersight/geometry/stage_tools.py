"""What the stage functions of geometry share: which folder is wrong, and what is undefined."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from layersight.errors import DataError
from layersight.geometry.measure import VectorsError

_SHOWN = 3
"""Metrics that a line names."""


@contextmanager
def naming(*folders: Path) -> Iterator[None]:
    """Say in which folders the vectors or graphs are that cannot be measured.

    Raises:
        DataError: in place of a `VectorsError`, with the folders before its message.
    """
    try:
        yield
    except VectorsError as error:
        raise DataError(f"{' and '.join(str(folder) for folder in folders)}: {error}") from None


def present(wanted: Sequence[str], stored: Iterable[str]) -> list[str]:
    """Return the streams that are wanted and stored, in the order wanted."""
    there = set(stored)
    return [stream for stream in wanted if stream in there]


def say_undefined(frame: pd.DataFrame, keys: Sequence[str], where: str) -> None:
    """Print which values of a table are NaN, and from how many items, one line a group.

    Args:
        frame: with the columns `layer`, `n`, `value` and `keys`.
        keys: columns that tell the lines apart, such as the stream.
        where: what was measured, for the line.
    """
    for key, group in frame[frame["value"].isna()].groupby(list(keys), sort=False):
        layers = ", ".join(str(layer) for layer in sorted(set(group["layer"])))
        names = list(dict.fromkeys(group["metric"]))
        metrics = ", ".join(names[:_SHOWN])
        if len(names) > _SHOWN:
            metrics += f" and {len(names) - _SHOWN} more"
        print(
            f"undefined (NaN): {where}: {' '.join(str(part) for part in key)}: layers {layers}, "
            f"{group['n'].min()} to {group['n'].max()} usable items: {metrics}",
            file=sys.stderr,
            flush=True,
        )
