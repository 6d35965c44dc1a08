"""Reading the attention weights of every block, one block in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from layersight.attention.ratio import Rows, divide
from layersight.data.batch import Batch
from layersight.data.conversation import Role
from layersight.models.blocks import decoder_blocks, unwrapped
from layersight.models.vlm import VisionLanguageModel

# Names of the attention module inside a block of Hugging Face's causal models.
_ATTENTION = ("self_attn", "attn", "attention")


@contextmanager
def eager(language_model: nn.Module) -> Iterator[None]:
    """While active, the model computes attention weights as matrices that can be read."""
    model = unwrapped(language_model)
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def attention_modules(language_model: nn.Module) -> list[nn.Module]:
    """Return the attention module of every block, in order.

    Raises:
        TypeError: a family whose attention is not where any known family has it.
    """
    found = []
    for block in decoder_blocks(language_model):
        modules = (getattr(block, name, None) for name in _ATTENTION)
        module = next((item for item in modules if isinstance(item, nn.Module)), None)
        if module is None:
            raise TypeError(f"no attention known in {type(block).__name__}")
        found.append(module)
    return found


@torch.inference_mode()
def generated_tokens(
    model: VisionLanguageModel, batch: Batch, *, new_tokens: int, end: int, pad: int
) -> torch.Tensor:
    """Answer a left-padded batch greedily, as benchmarks do.

    Returns:
        `(rows, at most new_tokens)` int64; `pad` behind the token `end` that closes an answer.
    """
    found: torch.Tensor = unwrapped(model.language_model).generate(
        inputs_embeds=model.embed(batch),
        attention_mask=batch.attention_mask,
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=pad,
        eos_token_id=end,
    )
    return found


def answered(batch: Batch, generated: torch.Tensor, end: int) -> Batch:
    """Return prompts with what was generated behind them, padding behind the token `end`."""
    ended = (generated == end).cumsum(-1)
    kept = (ended - (generated == end).long()) == 0
    roles = torch.where(kept, int(Role.ANSWER), int(Role.PADDING)).to(batch.roles.dtype)
    return replace(
        batch,
        input_ids=torch.cat([batch.input_ids, generated], 1),
        attention_mask=torch.cat([batch.attention_mask, kept.to(batch.attention_mask.dtype)], 1),
        roles=torch.cat([batch.roles, roles], 1),
    )


@torch.inference_mode()
def attention_ratio(
    model: VisionLanguageModel,
    batch: Batch,
    *,
    new_tokens: int,
    end: int,
    pad: int,
    rows: Rows = "producing",
) -> torch.Tensor:
    """Let a model answer, and read what its answers attend to.

    The answers are generated with the model's own attention kernel; then prompt and answer run once
    more, in one pass, with eager attention. Each block's weights are reduced as soon as they are
    there: no two blocks' matrices are held at once.

    Args:
        model: with a connector.
        batch: left-padded prompts; every row has an image.
        new_tokens: longest answer.
        end: token that ends an answer.
        pad: token put behind it.
        rows: which query positions count, see `layersight.attention.ratio`.

    Returns:
        Attention to image and text, `(blocks, rows, kinds, bos, 2)` float32 on the CPU; see
        `layersight.attention.ratio.Division`.

    Raises:
        TypeError: a family whose attention modules do not give their weights.
    """
    prompt = batch.input_ids.shape[1]
    whole = answered(
        batch, generated_tokens(model, batch, new_tokens=new_tokens, end=end, pad=pad), end
    )
    division = divide(whole, prompt, rows)
    read: list[torch.Tensor] = []

    def after(module: nn.Module, _: object, output: object) -> None:
        weights = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if not isinstance(weights, torch.Tensor):
            raise TypeError(f"{type(module).__name__} does not give its attention weights")
        read.append(division(weights).cpu())

    modules = attention_modules(model.language_model)
    handles = [module.register_forward_hook(after) for module in modules]
    try:
        with eager(model.language_model):
            model.hidden(whole)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(read)
