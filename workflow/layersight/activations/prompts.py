"""One prompt through a model: the residual of every token at every layer, and the loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from layersight.activations.capture import residual_stream
from layersight.data.batch import Batch
from layersight.data.conversation import IMAGE_TOKEN
from layersight.models.vlm import VisionLanguageModel

_LOGIT_ROWS = 128
"""Tokens whose logits are in memory at a time: a vocabulary is wide."""


@dataclass(frozen=True)
class PromptRun:
    """What a model makes of one prompt.

    Attributes:
        residuals: `(layers, tokens, width)` float32; layer 0 is the input of block 0, layer l the
            residual after block l, before the final norm.
        loss: mean cross-entropy of the tokens given those before them, in nats; NaN where nothing
            is predicted.
        predicted: number of tokens in the mean: all but the first and image positions, which have
            no token.
    """

    residuals: npt.NDArray[np.float32]
    loss: float
    predicted: int


@torch.inference_mode()
def run_prompt(model: VisionLanguageModel, batch: Batch) -> PromptRun:
    """Run one prompt and keep all of its tokens.

    Args:
        model: in evaluation mode.
        batch: one row without padding.

    Raises:
        ValueError: another number of rows, or padding.
    """
    if len(batch.input_ids) != 1 or not bool(batch.attention_mask.all()):
        raise ValueError("one prompt, without padding, is needed")
    read: list[torch.Tensor] = []
    with residual_stream(model.language_model, read, cast(Any, _every_token)):
        hidden = model.hidden(batch)
    targets = batch.input_ids[0, 1:]
    chosen = targets != IMAGE_TOKEN
    count = int(chosen.sum())
    total = 0.0
    for rows, words in zip(
        hidden[0, :-1][chosen].split(_LOGIT_ROWS), targets[chosen].split(_LOGIT_ROWS), strict=True
    ):
        total += float(nn.functional.cross_entropy(model.head(rows), words, reduction="sum"))
    loss = total / count if count else float("nan")
    return PromptRun(np.stack([layer.numpy() for layer in read]), loss, count)


def in_order(batch: Batch, order: npt.NDArray[np.intp]) -> Batch:
    """Return a batch of one prompt whose tokens stand in another order, each image feature too.

    Args:
        batch: one row without padding, with features where it has a picture.
        order: `(tokens,)`, a permutation.

    Raises:
        ValueError: more than one row, padding, packed conversations, or pixels in place of
            features.
    """
    if len(batch.input_ids) != 1 or not bool(batch.attention_mask.all()):
        raise ValueError("one prompt, without padding, is needed")
    if batch.pixels is not None or batch.segments is not None:
        raise ValueError("a prompt with image features is needed, as a conversation of its own")
    new = torch.as_tensor(order, device=batch.input_ids.device)
    features = batch.features
    if features is not None:
        is_image = batch.input_ids[0] == IMAGE_TOKEN
        # Which image position, counted from the first, a position of the prompt is.
        count = is_image.long().cumsum(0) - 1
        moved = count[new][is_image[new]]
        features = features.flatten(0, 1)[moved].reshape(features.shape)
    return replace(
        batch,
        input_ids=batch.input_ids[:, new],
        roles=batch.roles[:, new],
        features=features,
        labels=None,
    )


def _every_token(hidden: torch.Tensor) -> torch.Tensor:
    # A copy, since a later block may go on in the same memory.
    return hidden[0].to("cpu", torch.float32, copy=True)
