"""Which rows of a training set make a batch, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def batch_order(lengths: Sequence[int], batch_size: int, seed: int) -> list[list[int]]:
    """Group rows of similar length into full batches, and shuffle the batches.

    Rows are cut into chunks of eight batches in their given order, and sorted by length inside a
    chunk, so that little computation goes into padding while the mixture stays mixed.
    """
    chunk = 8 * batch_size
    batches: list[list[int]] = []
    for start in range(0, len(lengths), chunk):
        rows = sorted(
            range(start, min(start + chunk, len(lengths))), key=lambda row: (lengths[row], row)
        )
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    generator = torch.Generator().manual_seed(seed)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
