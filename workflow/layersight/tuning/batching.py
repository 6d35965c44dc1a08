"""Which rows of a training set make a batch, in which order, and the batches themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch

from layersight.data.batch import Batch
from layersight.data.collation import collate, collate_packed
from layersight.data.conversation import Tokens
from layersight.data.features import ImageInputs

GroupBy = Literal["length", "modality_length", "none"]
Lengths = Sequence[int] | np.ndarray


class Conversations(Protocol):
    """Tokenised conversations by their row: a list, or a table that is read when asked."""

    def __getitem__(self, row: int, /) -> Tokens: ...


class Pictures(Protocol):
    """The picture of every row, or None, by the row."""

    def __getitem__(self, row: int, /) -> str | None: ...


def batch_order(
    lengths: Lengths,
    batch_size: int,
    seed: int,
    *,
    group_by: GroupBy = "length",
    pictured: Sequence[bool] | np.ndarray | None = None,
) -> list[list[int]]:
    """Cut all rows into batches: a pure function of its arguments, so a step is a data position.

    `length`: rows are cut into chunks of eight batches in their given order, and sorted by length
    inside a chunk, so that little computation goes into padding while the mixture stays mixed.
    `modality_length`: as LLaVA's trainer groups them (Liu et al. 2023, its sampler): rows with and
    without a picture are shuffled apart and cut into batches of one kind, sorted by length, longest
    first. What is left of both kinds makes one mixed batch, the first if it is full; what remains
    comes last. `none`: all rows are shuffled. Otherwise it is the batches that are shuffled.

    Args:
        lengths: tokens of every row.
        batch_size: rows of a batch; the last batches may have fewer.
        seed: of the shuffling.
        group_by: what rows of a batch share.
        pictured: whether a row has a picture; needed by `modality_length`.

    Raises:
        ValueError: `modality_length` without `pictured`, or for another number of rows.
    """
    generator = torch.Generator().manual_seed(seed)
    if group_by == "modality_length":
        if pictured is None or len(pictured) != len(lengths):
            raise ValueError("grouping by modality needs to know of every row if it has a picture")
        return _by_modality(lengths, np.asarray(pictured, dtype=bool), batch_size, generator)
    if group_by == "none":
        return _cut(torch.randperm(len(lengths), generator=generator).tolist(), batch_size)
    chunk = 8 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(lengths), chunk):
        rows = sorted(
            range(start, min(start + chunk, len(lengths))), key=lambda row: (lengths[row], row)
        )
        batches += _cut(rows, batch_size)
    return _shuffled(batches, generator)


def _by_modality(
    lengths: Lengths, pictured: np.ndarray, batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    full: list[list[int]] = []
    left: list[int] = []
    for kind in (np.flatnonzero(pictured), np.flatnonzero(~pictured)):
        mixed = kind[torch.randperm(len(kind), generator=generator).numpy()].tolist()
        batches = [
            sorted(rows, key=lambda row: (-lengths[row], row)) for rows in _cut(mixed, batch_size)
        ]
        if batches and len(batches[-1]) < batch_size:
            left += batches.pop()
        full += batches
    rest = _cut(left, batch_size)
    first = rest[:1] if rest and len(rest[0]) == batch_size else []
    return first + _shuffled(full, generator) + rest[len(first) :]


def _cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _shuffled(batches: list[list[int]], generator: torch.Generator) -> list[list[int]]:
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def split(rows: Sequence[int], lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Split a batch into parts such that the most costly one is as cheap as it can be.

    A part costs its rows times its longest row, padding included. Rows of similar length come
    together; one part keeps the order that it has. A part's mean loss counts by its number of
    answer tokens, not by its rows.

    Args:
        rows: rows of the batch.
        lengths: tokens of these rows, in their order.
        parts: how many parts: accumulation steps times processes.

    Raises:
        ValueError: fewer rows than parts.
    """
    if len(rows) < parts:
        raise ValueError(f"{len(rows)} rows cannot be split into {parts} parts")
    if parts == 1:
        return [list(rows)]
    order = sorted(range(len(rows)), key=lambda i: (-lengths[i], rows[i]))
    # The least cost that suffices: with the longest first, to fill every part is best.
    low, high = max(lengths), max(lengths) * len(rows)
    while low < high:
        middle = (low + high) // 2
        if len(_filled(order, lengths, middle, 1)) <= parts:
            high = middle
        else:
            low = middle + 1
    return [[rows[i] for i in part] for part in _filled(order, lengths, low, parts)]


def _filled(
    order: Sequence[int], lengths: Sequence[int], cost: int, least: int
) -> list[Sequence[int]]:
    """Fill parts up to a cost, but leave enough rows to have at least so many parts."""
    parts: list[Sequence[int]] = []
    start = 0
    while start < len(order):
        spare = len(order) - start - max(least - len(parts) - 1, 0)
        size = max(min(cost // lengths[order[start]], spare), 1)
        parts.append(order[start : start + size])
        start += size
    return parts


def bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack conversations into rows: the longest first, each into the first row that has space.

    First-fit decreasing needs at most 11/9 of the fewest rows possible, and 6/9 of one more
    (Dósa 2007).

    Args:
        lengths: tokens of the conversations.
        capacity: tokens of a row; a longer conversation gets a row of its own.

    Returns:
        Indices of the conversations of every row.
    """
    rows: list[list[int]] = []
    free: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        length = int(lengths[index])
        row = next((row for row, space in enumerate(free) if space >= length), None)
        if row is None:
            rows.append([index])
            free.append(capacity - length)
        else:
            rows[row].append(index)
            free[row] -= length
    return rows


def padding_share(
    order: Sequence[Sequence[int]], lengths: Lengths, *, parts: int = 1, capacity: int | None = None
) -> float:
    """Return the share of all positions computed that are padding.

    Args:
        order: rows of every batch.
        lengths: tokens of every row.
        parts: into how many parts a batch is split, see `split`.
        capacity: tokens of a packed row, at least, see `TrainingBatches`; None packs nothing.
    """
    used = computed = 0
    for batch in order:
        for rows in split(batch, [int(lengths[row]) for row in batch], parts):
            sizes = [int(lengths[row]) for row in rows]
            used += sum(sizes)
            height, width = len(sizes), max(sizes)
            if capacity is not None:
                packed = bins(sizes, max(capacity, width))
                height, width = len(packed), max(sum(sizes[i] for i in row) for row in packed)
            computed += height * width
    return 1.0 - used / computed if computed else 0.0


class TrainingBatches:
    """The batches of a training set by their step, each put together when it is asked for.

    Args:
        order: row indices of every batch, in the order of the steps.
        rows: tokenised conversations.
        images: the picture of every row, or None.
        features: where image features are; or the pictures, whose features the model computes.
        pad_token: token id put on padding.
        capacity: put several conversations into a row of so many tokens, or of the longest
            conversation of the batch if that has more; None gives every conversation its own row.
        lengths: tokens of every row, where they are known: a part then reads its own rows only.
    """

    def __init__(
        self,
        order: Sequence[Sequence[int]],
        rows: Conversations,
        images: Pictures,
        features: ImageInputs,
        pad_token: int,
        *,
        capacity: int | None = None,
        lengths: Lengths | None = None,
    ) -> None:
        self._order = order
        self._rows = rows
        self._images = images
        self._features = features
        self._pad_token = pad_token
        self._capacity = capacity
        self._lengths = lengths
        self._step = -1
        self._read: dict[int, tuple[Tokens, str | None]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> Batch:
        return self.part(step, 0, 1)

    def part(self, step: int, index: int, parts: int) -> Batch:
        """Return one part of a step's batch, see `split`.

        Args:
            step: the step.
            index: which part, from 0.
            parts: how many parts the batch is split into.
        """
        order = self._order[step]
        if self._lengths is not None:
            lengths = [int(self._lengths[row]) for row in order]
        else:
            lengths = [len(tokens.input_ids) for tokens, _ in self._rows_of(step, order)]
        chosen = split(order, lengths, parts)[index]
        found = self._rows_of(step, chosen)
        rows = [tokens for tokens, _ in found]
        batch = self._collated(rows, [image for _, image in found])
        if batch.features is not None and batch.features.dtype == torch.uint8:
            batch.pixels, batch.features = batch.features, None
        return batch

    def _collated(self, rows: Sequence[Tokens], images: Sequence[str | None]) -> Batch:
        if self._capacity is None:
            return collate(
                rows,
                images,
                self._features,
                padding="right",
                pad_token=self._pad_token,
                labels=True,
            )
        sizes = [len(tokens.input_ids) for tokens in rows]
        return collate_packed(
            rows,
            images,
            self._features,
            bins(sizes, max(self._capacity, *sizes)),
            pad_token=self._pad_token,
            labels=True,
        )

    def _rows_of(self, step: int, rows: Sequence[int]) -> list[tuple[Tokens, str | None]]:
        """Return tokens and picture of some rows, read once for all parts of a step."""
        if step != self._step:
            self._step, self._read = step, {}
        for row in rows:
            if row not in self._read:
                # Together: both stand in the same part of the table.
                self._read[row] = (self._rows[row], self._images[row])
        return [self._read[row] for row in rows]
