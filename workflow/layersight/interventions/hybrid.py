"""Hybrid models: the blocks of a window taken from a donor, everything else from the target.

A hybrid is a list of references to blocks of two loaded models: nothing is copied or reloaded.
Several hybrids run together as a prefix tree, so that every distinct prefix of blocks runs once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from layersight.data.batch import Batch
from layersight.models.blocks import decoder_blocks, final_norm
from layersight.models.vlm import VisionLanguageModel


@dataclass(frozen=True)
class Hybrid:
    """Which parts come from the donor.

    Attributes:
        start: first donor block.
        stop: one past the last donor block; start == stop patches no block.
        connector: whose connector maps the image features.
        everything_else: whose embeddings, final norm and head are used.
    """

    start: int
    stop: int
    connector: Literal["target", "donor"] = "target"
    everything_else: Literal["target", "donor"] = "target"

    def sources(self, layers: int) -> tuple[bool, ...]:
        """Return for every block whether it is the donor's.

        Raises:
            ValueError: the window is not inside [0, layers].
        """
        if not 0 <= self.start <= self.stop <= layers:
            raise ValueError(f"window [{self.start}, {self.stop}) is not inside [0, {layers})")
        return tuple(self.start <= block < self.stop for block in range(layers))


@torch.inference_mode()
def run_hybrids(
    target: VisionLanguageModel,
    donor: VisionLanguageModel,
    batch: Batch,
    hybrids: Sequence[Hybrid],
    donor_batch: Batch | None = None,
) -> list[torch.Tensor]:
    """Return float32 logits of the next token, `(rows, vocabulary)`, for every hybrid.

    Args:
        target: gives everything that a hybrid does not take from the donor.
        donor: a model of the same architecture.
        batch: left-padded, with the image features of the target.
        hybrids: in any order; the results keep it.
        donor_batch: the same with the donor's image features, where its vision encoder is another;
            only a hybrid that takes everything from the donor reads it.

    Raises:
        ValueError: the models differ in their number of blocks, or the batch is not left-padded.
    """
    if not bool(batch.attention_mask[:, -1].all()):
        raise ValueError("patching reads the last token: the batch must be left-padded")
    blocks = (decoder_blocks(target.language_model), decoder_blocks(donor.language_model))
    layers = len(blocks[0])
    if len(blocks[1]) != layers:
        raise ValueError(f"target has {layers} blocks, donor has {len(blocks[1])}")
    calls = _block_calls(target, batch)
    results: list[torch.Tensor | None] = [None] * len(hybrids)
    order = sorted(
        range(len(hybrids)),
        key=lambda i: (
            hybrids[i].everything_else,
            hybrids[i].connector,
            hybrids[i].sources(layers),
        ),
    )
    root: tuple[str, str] | None = None
    path: tuple[bool, ...] = ()
    states: list[torch.Tensor] = []
    for index in order:
        hybrid = hybrids[index]
        sources = hybrid.sources(layers)
        if (hybrid.everything_else, hybrid.connector) != root:
            root = (hybrid.everything_else, hybrid.connector)
            path, states = (), [_embed(target, donor, batch, donor_batch or batch, hybrid)]
        shared = _common_prefix(path, sources)
        del states[shared + 1 :]
        for layer in range(shared, layers):
            states.append(_run_block(blocks[sources[layer]][layer], states[-1], calls[layer]))
        path = sources
        outer = donor if hybrid.everything_else == "donor" else target
        # The whole sequence goes through the norm, as in the model's own forward pass, so that the
        # identity tests hold to the last bit.
        normed = final_norm(outer.language_model)(states[-1])
        results[index] = outer.head(normed[:, -1])
    return [result for result in results if result is not None]


@contextmanager
def assembled(
    target: VisionLanguageModel,
    donor: VisionLanguageModel,
    batch: Batch,
    hybrid: Hybrid,
    donor_batch: Batch | None = None,
) -> Iterator[tuple[VisionLanguageModel, torch.Tensor]]:
    """Yield a hybrid as a model that generates, and its input of block 0 for a batch.

    The donor's blocks stand in the target's list while the context is open: for answers of several
    tokens, which need the model's own generation. No prefix is shared, and only one hybrid can be
    open at a time.

    Args:
        target: as for `run_hybrids`.
        donor: as for `run_hybrids`.
        batch: as for `run_hybrids`.
        hybrid: which parts come from the donor.
        donor_batch: as for `run_hybrids`.

    Raises:
        ValueError: the models differ in their number of blocks, or the window is not in them.
    """
    outer = donor if hybrid.everything_else == "donor" else target
    other = target if hybrid.everything_else == "donor" else donor
    blocks, others = decoder_blocks(outer.language_model), decoder_blocks(other.language_model)
    if len(blocks) != len(others):
        raise ValueError(f"target and donor have {len(blocks)} and {len(others)} blocks")
    own = list(blocks)
    for place, from_donor in enumerate(hybrid.sources(len(own))):
        if from_donor != (outer is donor):
            blocks[place] = others[place]
    try:
        yield outer, _embed(target, donor, batch, donor_batch or batch, hybrid)
    finally:
        for place, block in enumerate(own):
            blocks[place] = block


def block_runs(hybrids: Sequence[Hybrid], layers: int) -> int:
    """Return how many block evaluations the prefix tree needs for these hybrids."""
    prefixes = {
        (hybrid.everything_else, hybrid.connector, hybrid.sources(layers)[:depth])
        for hybrid in hybrids
        for depth in range(1, layers + 1)
    }
    return len(prefixes)


def _block_calls(model: VisionLanguageModel, batch: Batch) -> list[dict[str, Any]]:
    """Record the keyword arguments (mask, positions, ...) that the model gives to every block.

    The blocks are replaced by the identity during this pass, so it costs almost nothing, and any
    architecture's own way of making masks and rotary tables is used as it is.
    """
    calls: list[dict[str, Any]] = []
    originals = []

    def recorder(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args:
            raise ValueError("blocks with positional arguments besides the hidden states")
        calls.append(kwargs)
        return hidden

    blocks = decoder_blocks(model.language_model)
    for block in blocks:
        originals.append(block.__dict__.get("forward"))
        block.forward = recorder
    try:
        model.hidden(batch)
    finally:
        for block, original in zip(blocks, originals, strict=True):
            del block.forward
            if original is not None:
                block.forward = original
    return calls


def _run_block(block: nn.Module, hidden: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
    output = block(hidden, **kwargs)
    result: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return result


def _embed(
    target: VisionLanguageModel,
    donor: VisionLanguageModel,
    batch: Batch,
    donor_batch: Batch,
    hybrid: Hybrid,
) -> torch.Tensor:
    chosen = donor if hybrid.connector == "donor" else target
    if hybrid.everything_else == "donor":
        return donor.embed(donor_batch, connector=chosen.connector)
    return target.embed(batch, connector=chosen.connector)


def _common_prefix(a: tuple[bool, ...], b: tuple[bool, ...]) -> int:
    length = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        length += 1
    return length
