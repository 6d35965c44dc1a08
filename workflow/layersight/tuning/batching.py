"""Which rows of a training set make a batch, in which order, and the batches themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from layersight.data.batch import Batch
from layersight.data.collation import collate
from layersight.data.conversation import Tokens
from layersight.data.features import FeatureStore


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


class TrainingBatches:
    """The batches of a training set by their step, each put together when it is asked for.

    Args:
        order: row indices of every batch, in the order of the steps.
        rows: tokenised conversations.
        images: the picture of every row, or None.
        features: where image features are.
        pad_token: token id put on padding.
    """

    def __init__(
        self,
        order: Sequence[Sequence[int]],
        rows: Sequence[Tokens],
        images: Sequence[str | None],
        features: FeatureStore,
        pad_token: int,
    ) -> None:
        self._order = order
        self._rows = rows
        self._images = images
        self._features = features
        self._pad_token = pad_token

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, step: int) -> Batch:
        chosen = self._order[step]
        return collate(
            [self._rows[i] for i in chosen],
            [self._images[i] for i in chosen],
            self._features,
            padding="right",
            pad_token=self._pad_token,
            labels=True,
        )
