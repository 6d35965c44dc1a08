"""Batches: tokens padded to one length, image features beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch

from layersight.data.batch import Batch
from layersight.data.conversation import IGNORE, Role, Tokens
from layersight.data.features import ImageInputs


def collate(
    rows: Sequence[Tokens],
    image_ids: Sequence[str | None],
    features: ImageInputs | None,
    *,
    padding: Literal["left", "right"],
    pad_token: int,
    labels: bool = False,
) -> Batch:
    """Pad rows to one batch.

    Args:
        rows: tokenised conversations.
        image_ids: the picture of every row, or None.
        features: where image features are; may be None if no row has a picture.
        padding: side of the padding; left wherever the next token is read off.
        pad_token: token id put on padding (masked out everywhere).
        labels: also make labels, -100 outside answers.

    Raises:
        ValueError: a row has a picture but there is no feature store.
    """
    length = max(len(row.input_ids) for row in rows)
    input_ids = torch.full((len(rows), length), pad_token, dtype=torch.int64)
    mask = torch.zeros((len(rows), length), dtype=torch.int64)
    roles = torch.full((len(rows), length), int(Role.PADDING), dtype=torch.int8)
    targets = torch.full((len(rows), length), IGNORE, dtype=torch.int64)
    for index, row in enumerate(rows):
        size = len(row.input_ids)
        where = slice(length - size, length) if padding == "left" else slice(0, size)
        input_ids[index, where] = torch.tensor(row.input_ids)
        mask[index, where] = 1
        roles[index, where] = torch.tensor(row.roles, dtype=torch.int8)
        targets[index, where] = torch.tensor(row.labels)
    wanted = [image for image in image_ids if image is not None]
    if wanted and features is None:
        raise ValueError("rows with pictures need a feature store")
    return Batch(
        input_ids=input_ids,
        attention_mask=mask,
        features=features.take(wanted) if wanted and features is not None else None,
        roles=roles,
        labels=targets if labels else None,
    )


def collate_packed(
    rows: Sequence[Tokens],
    image_ids: Sequence[str | None],
    features: ImageInputs | None,
    bins: Sequence[Sequence[int]],
    *,
    pad_token: int,
    labels: bool = False,
) -> Batch:
    """Put several conversations into one row of a batch; none of them sees another.

    The loss is that of the padded batch of the same conversations.

    Args:
        rows: tokenised conversations.
        image_ids: the picture of every conversation, or None.
        features: where image features are; may be None if no conversation has a picture.
        bins: which conversations make a row, every one once, see `layersight.tuning.batching.bins`.
        pad_token: token id put on the padding at the end of a row.
        labels: also make labels, -100 outside answers.

    Raises:
        ValueError: a conversation has a picture but there is no feature store.
    """
    joined = [
        Tokens(
            [token for index in chosen for token in rows[index].input_ids],
            [role for index in chosen for role in rows[index].roles],
        )
        for chosen in bins
    ]
    batch = collate(
        joined,
        [image_ids[index] for chosen in bins for index in chosen],
        features,
        padding="right",
        pad_token=pad_token,
        labels=labels,
    )
    segments = torch.zeros_like(batch.input_ids)
    for row, chosen in enumerate(bins):
        start = 0
        for number, index in enumerate(chosen, 1):
            stop = start + len(rows[index].input_ids)
            segments[row, start:stop] = number
            if batch.labels is not None:
                # No token comes before it; its neighbour here is another conversation's last one.
                batch.labels[row, start] = IGNORE
            start = stop
    batch.segments = segments
    return batch


def length_sorted_batches(lengths: Sequence[int], batch_size: int) -> Iterator[np.ndarray]:
    """Yield row indices in batches of similar length, longest first (ties by index).

    Longest first, so that a batch too large for the memory fails at once and not at the end.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
