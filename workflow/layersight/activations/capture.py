"""Reading a model's residual stream, and what its blocks add to it, while it runs.

Sites: `residual` is the residual stream, layer 0 the input of block 0 and layer l what block l - 1
(counted from 0) hands on, before the final norm. `attention` and `mlp` are the outputs of these two
parts of a block, and `heads` is what every head hands to attention's output projection, one head
beside the other (z); they have the layers 1 to L, layer l being of the same block as the residual
of layer l. `head_outputs` makes of z what each head adds to the residual stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from layersight.activations.streams import MEANS, RESIDUAL
from layersight.data.batch import Batch
from layersight.models.blocks import block_parts, decoder_blocks
from layersight.models.vlm import VisionLanguageModel

Take = Callable[[torch.Tensor], object]


@contextmanager
def residual_stream(
    language_model: nn.Module,
    read: list[torch.Tensor],
    pool: Callable[[torch.Tensor], torch.Tensor],
) -> Iterator[None]:
    """While active, append the pooled residual of every layer to `read`, layer 0 first.

    Layer 0 is the input of block 0; layer l is the residual after block l, before the final norm.
    """
    with reading(language_model, RESIDUAL, lambda hidden: read.append(pool(hidden))):
        yield


@contextmanager
def reading(language_model: nn.Module, site: str, take: Take) -> Iterator[None]:
    """While active, hand what passes a site to `take`, once a layer and in their order.

    What `take` gets is `(rows, length, width)`, or `(rows * length, width)` from some families, and
    may change after `take` has returned.

    Args:
        language_model: of a known family, see `layersight.models.blocks`.
        site: `residual`, `attention`, `mlp` or `heads`.
        take: given a tensor.

    Raises:
        AssetError: the family is not known.
    """

    def before(_: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, object]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        assert isinstance(hidden, torch.Tensor)
        take(hidden)

    def after(_: nn.Module, args: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        take(output[0] if isinstance(output, tuple) else output)

    if site == RESIDUAL:
        blocks = decoder_blocks(language_model)
        handles = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
        handles += [block.register_forward_hook(after) for block in blocks]
    else:
        parts = block_parts(language_model)
        handles = {
            "attention": lambda: [part.attention.register_forward_hook(after) for part in parts],
            "mlp": lambda: [part.mlp.register_forward_hook(after) for part in parts],
            "heads": lambda: [
                part.projection.register_forward_pre_hook(before, with_kwargs=True)
                for part in parts
            ],
        }[site]()
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def head_outputs(z: torch.Tensor, projection: nn.Module, heads: int) -> torch.Tensor:
    """Return what every head adds to the residual stream.

    z_h W_O[:, h d : (h + 1) d]ᵀ with d numbers a head (Elhage et al. 2021, A Mathematical Framework
    for Transformer Circuits). Their sum and the projection's bias are attention's output.

    Args:
        z: `(..., heads * d)`, the input of the projection.
        projection: attention's output projection, any affine map: a linear layer, GPT-2's `Conv1D`,
            or either with adapters that are linear.
        heads: number of (query) heads.

    Returns:
        `(..., heads, width)`, of the projection's type.
    """
    each = z.shape[-1] // heads
    # One head at a time: all others are zero, and what the projection makes of zero is its bias.
    alone = torch.zeros(*z.shape[:-1], heads, z.shape[-1], dtype=z.dtype, device=z.device)
    for head in range(heads):
        own = slice(head * each, (head + 1) * each)
        alone[..., head, own] = z[..., own]
    nothing = torch.zeros(1, z.shape[-1], dtype=z.dtype, device=z.device)
    found: torch.Tensor = projection(alone) - projection(nothing)
    return found


class Pool:
    """Pools token vectors to streams, on the device.

    Attributes:
        present: `(streams, rows)` bool: whether a row has tokens of a stream.
    """

    def __init__(
        self,
        batch: Batch,
        streams: Sequence[str],
        columns: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Prepare for one batch.

        Args:
            batch: left-padded.
            streams: `last`, `image_mean`, `text_mean`, or keys of `columns`.
            columns: stream to `(rows,)` int64: the column of its token in every row, -1 for none.
        """
        self._shape = tuple(batch.input_ids.shape)
        rows, length = self._shape
        device = batch.input_ids.device
        given = {name: found.to(device) for name, found in (columns or {}).items()}
        # Left padding: the last column is the last prompt token.
        given["last"] = torch.full((rows,), length - 1, device=device)
        self._means = [index for index, stream in enumerate(streams) if stream in MEANS]
        self._points = [index for index, stream in enumerate(streams) if stream not in MEANS]
        masks = [(batch.roles == int(MEANS[streams[index]])).float() for index in self._means]
        empty = torch.zeros(0, rows, length, device=device)
        counted = torch.stack(masks) if masks else empty
        # `(rows, means, length)`: every row sums to one, or to zero without a token of the stream.
        self._weights = counted / counted.sum(-1, keepdim=True).clamp(min=1.0)
        self._weights = self._weights.transpose(0, 1)
        chosen = [given[streams[index]] for index in self._points]
        self._columns = (
            torch.stack(chosen) if chosen else torch.zeros(0, rows, device=device).long()
        )
        self._rows = torch.arange(rows, device=device)
        self.present = torch.zeros(len(streams), rows, dtype=torch.bool, device=device)
        self.present[self._means] = counted.sum(-1) > 0
        self.present[self._points] = self._columns >= 0

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Pool `(rows, length, width)` to `(streams, rows, width)`, in float32."""
        hidden = hidden.reshape(*self._shape, -1)
        out = hidden.new_empty(
            len(self.present), len(self._rows), hidden.shape[-1], dtype=torch.float32
        )
        if self._points:
            out[self._points] = hidden[self._rows, self._columns].float()
        if self._means:
            means = torch.bmm(self._weights, hidden.float())
            out[self._means] = means.transpose(0, 1)
        return out


@dataclass(frozen=True)
class Captured:
    """What one batch left at one site.

    Attributes:
        pooled: `(layers, streams, rows, width)` float32; rows without a stream hold nothing of use.
        tokens: `(layers, tokens, width)` float32 in memory, every token that is no padding, row by
            row; None unless asked for.
    """

    pooled: torch.Tensor
    tokens: torch.Tensor | None


@torch.inference_mode()
def capture(
    model: VisionLanguageModel,
    batch: Batch,
    streams: Sequence[str],
    *,
    sites: Sequence[str] = (RESIDUAL,),
    columns: Mapping[str, torch.Tensor] | None = None,
    every: bool = False,
) -> tuple[dict[str, Captured], Pool]:
    """Run a left-padded batch once; return what is asked for at every site.

    Args:
        model: in evaluation mode.
        batch: left-padded.
        streams: see `Pool`.
        sites: where to read, see this module; `residual` has the layers 0 to L, others 1 to L.
        columns: see `Pool`.
        every: also return every token.

    Raises:
        ValueError: the batch is not left-padded.
        AssetError: the language model's family is not known.
    """
    if not bool(batch.attention_mask[:, -1].all()):
        raise ValueError("capture needs left padding: the last column must be the last token")
    pool = Pool(batch, streams, columns)
    real = batch.attention_mask.bool()
    pooled: dict[str, list[torch.Tensor]] = {site: [] for site in sites}
    tokens: dict[str, list[torch.Tensor]] = {site: [] for site in sites}

    def taker(site: str) -> Take:
        def take(hidden: torch.Tensor) -> None:
            pooled[site].append(pool(hidden))
            if every:
                # Indexing copies: a later block may go on in the same memory.
                kept = hidden.reshape(*real.shape, -1)[real]
                tokens[site].append(kept.to("cpu", torch.float32))

        return take

    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(reading(model.language_model, site, taker(site)))
        model.hidden(batch)
    found = {
        site: Captured(torch.stack(pooled[site]), torch.stack(tokens[site]) if every else None)
        for site in sites
    }
    return found, pool
