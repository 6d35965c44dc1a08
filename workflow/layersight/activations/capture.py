"""Reading the residual stream of every layer off a model while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from layersight.data.batch import Batch
from layersight.data.conversation import Role
from layersight.models.blocks import decoder_blocks
from layersight.models.vlm import VisionLanguageModel


@contextmanager
def residual_stream(
    language_model: nn.Module, read: list[torch.Tensor], pool: Pool
) -> Iterator[None]:
    """While active, append the pooled residual of every layer to `read`, layer 0 first.

    Layer 0 is the input of block 0; layer l is the residual after block l, before the final norm.
    """
    blocks = decoder_blocks(language_model)

    def before(_: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, object]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        assert isinstance(hidden, torch.Tensor)
        read.append(pool(hidden))

    def after(_: nn.Module, args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        read.append(pool(output[0] if isinstance(output, tuple) else output))

    handles = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [block.register_forward_hook(after) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Pool:
    """Pools token vectors to streams, on the device.

    Attributes:
        weights: `(streams, rows, length)` float32; every row sums to one, or to zero where a row
            has no token of the stream.
    """

    def __init__(self, batch: Batch, streams: Sequence[str]) -> None:
        masks = []
        for stream in streams:
            if stream == "last":
                mask = torch.zeros_like(batch.attention_mask, dtype=torch.float32)
                mask[:, -1] = 1.0  # left padding: the last column is the last prompt token
            else:
                role = {"image_mean": Role.IMAGE, "text_mean": Role.TEXT}[stream]
                mask = (batch.roles == int(role)).float()
            masks.append(mask / mask.sum(-1, keepdim=True).clamp(min=1.0))
        self.weights = torch.stack(masks)

    @property
    def present(self) -> torch.Tensor:
        """`(streams, rows)` bool: whether a row has tokens of a stream."""
        return self.weights.sum(-1) > 0

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Pool `(rows, length, width)` to `(streams, rows, width)`, in float32."""
        return torch.einsum("srl,rlw->srw", self.weights, hidden.float())


@torch.inference_mode()
def capture(
    model: VisionLanguageModel, batch: Batch, streams: Sequence[str]
) -> tuple[torch.Tensor, Pool]:
    """Run a left-padded batch; return pooled residuals `(layers, streams, rows, width)` float32.

    Raises:
        ValueError: the batch is not left-padded.
    """
    if not bool(batch.attention_mask[:, -1].all()):
        raise ValueError("capture needs left padding: the last column must be the last token")
    pool = Pool(batch, streams)
    read: list[torch.Tensor] = []
    with residual_stream(model.language_model, read, pool):
        model.hidden(batch)
    return torch.stack(read), pool
