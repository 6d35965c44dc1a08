"""Questions in Parquet as the hub has them: MMLU and ScienceQA."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from layersight.errors import DataError
from layersight.questions.items import Item, right_choice

_ROWS = 64
"""In memory at a time: pictures stand in the rows."""
_MMLU = ("question", "subject", "choices", "answer")
_SCIENCEQA = ("question", "choices", "answer", "hint", "topic", "image")


def read_mmlu(paths: Sequence[Path]) -> Iterator[Item]:
    """Yield the items of MMLU (Hendrycks et al. 2021) as `cais/mmlu` has it; the kind is its
    subject, and an item is named by its place.

    Args:
        paths: Parquet files with `question`, `subject`, `choices` (texts) and `answer` (index).

    Raises:
        DataError: no such file, columns other than these, or a row that is no question.
    """
    for place, row, where in _rows(paths, _MMLU):
        try:
            choices = tuple(row["choices"] or ())
            right = right_choice(choices, row["answer"])
            yield Item(f"{place:05d}", row["question"], (right,), choices, row["subject"])
        except (DataError, TypeError) as error:
            raise DataError(f"{where}: {error}") from None


def read_scienceqa(paths: Sequence[Path]) -> Iterator[Item]:
    """Yield the items of ScienceQA (Lu et al. 2022) as `derek-thomas/ScienceQA` has it.

    The hint stands before the question; the kind is the topic. An item is named by its place, and
    so is its picture, which `scienceqa_pictures` reads.

    Args:
        paths: Parquet files with `question`, `choices`, `answer` (index), `hint`, `topic` and
            `image` (a struct with `bytes`; null without a picture).

    Raises:
        DataError: as `read_mmlu`.
    """
    for place, row, where in _rows(paths, _SCIENCEQA):
        try:
            choices = tuple(row["choices"] or ())
            right = right_choice(choices, row["answer"])
            asked = "\n".join(text for text in (row["hint"], row["question"]) if text)
            shown = f"{place:05d}" if (row["image"] or {}).get("bytes") else None
            yield Item(f"{place:05d}", asked, (right,), choices, row["topic"] or "", shown)
        except (DataError, TypeError) as error:
            raise DataError(f"{where}: {error}") from None


def scienceqa_pictures(
    paths: Sequence[Path], wanted: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Yield the pictures of some items, by the items' names.

    Args:
        paths: as for `read_scienceqa`.
        wanted: names of pictures.
    """
    for place, row, _ in _rows(paths, ("image",)):
        name = f"{place:05d}"
        if name in wanted:
            yield name, row["image"]["bytes"]


def _rows(
    paths: Sequence[Path], columns: Sequence[str]
) -> Iterator[tuple[int, Mapping[str, Any], str]]:
    place = 0
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected Parquet with {', '.join(columns)}")
        try:
            with pq.ParquetFile(path) as file:
                missing = [name for name in columns if name not in file.schema_arrow.names]
                if missing:
                    raise DataError(
                        f"{path}: has no column {', '.join(missing)}; expected {', '.join(columns)}"
                    )
                for batch in file.iter_batches(batch_size=_ROWS, columns=list(columns)):
                    for row in batch.to_pylist():
                        yield place, row, f"{path}: row {place}"
                        place += 1
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a readable Parquet file ({error})") from None
