"""How far tuning moved the weights of every block."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from safetensors import safe_open
from torch import nn

from layersight.errors import DataError
from layersight.models.blocks import decoder_blocks
from layersight.models.deltas import TENSORS, apply_delta
from layersight.models.safe_files import check_model_folder, tensor_names
from layersight.storage.tables import write_table

_BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")

SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("block", pa.int32()),
        ("difference_norm", pa.float64()),
        ("reference_norm", pa.float64()),
        ("relative_change", pa.float64()),
    ]
)


BlockTensor = tuple[int, str, torch.Tensor, torch.Tensor]
"""Block, name inside the block, base weight, tuned weight (the same object if it did not learn)."""


@torch.no_grad()
def weight_change(subject: str, base: nn.Module, tuned: nn.Module) -> list[dict[str, Any]]:
    """Return for every block the Frobenius norm of the change of its weights, relative to the base.

    Args:
        subject: the tuned subject's name.
        base: the base language model.
        tuned: the tuned one, see `tensors_of_models`; it is changed.
    """
    return _by_block(subject, tensors_of_models(base, tuned))


@torch.no_grad()
def weight_change_of_tensors(subject: str, base: Path, tuned: Path) -> list[dict[str, Any]]:
    """Return the same from files, tensor by tensor: no model is built, no two are in memory.

    Args:
        subject: the tuned subject's name.
        base: folder of the base language model.
        tuned: safetensors file with the tensors that learned, by the base model's names.
    """
    return _by_block(subject, tensors_of_files(base, tuned))


def tensors_of_models(base: nn.Module, tuned: nn.Module) -> Iterator[BlockTensor]:
    """Pair the weights of two models, block by block.

    Adapters that act as a sum of weights (LoRA) are merged first, so that methods compare; `tuned`
    is changed by that. Adapters that act on activations leave the weights as they are.

    Args:
        base: the base language model.
        tuned: the tuned one, of the same architecture, possibly a PEFT model.
    """
    merge = getattr(tuned, "merge_and_unload", None)
    try:
        merged = merge() if callable(merge) else tuned
    except NotImplementedError:  # acts on activations
        merged = cast(Any, tuned).unload()
    blocks = zip(decoder_blocks(base), decoder_blocks(merged), strict=True)
    for index, (before, after) in enumerate(blocks):
        new = after.state_dict()
        for name, old in before.state_dict().items():
            yield index, name, old, new[name]


def tensors_of_files(base: Path, tuned: Path) -> Iterator[BlockTensor]:
    """Pair the weights in files, block by block; one pair is in memory at a time.

    Args:
        base: folder of the base language model.
        tuned: safetensors file with the tensors that learned, by the base model's names.

    Raises:
        DataError: a tensor learned that the base model does not have.
    """
    with ExitStack() as stack:
        stored: dict[str, Any] = {}
        for path in sorted(base.glob("*.safetensors")):
            file = stack.enter_context(safe_open(path, framework="pt"))
            stored |= dict.fromkeys(file.keys(), file)
        learned = stack.enter_context(safe_open(tuned, framework="pt"))
        changed = set(learned.keys())
        unknown = sorted(changed - set(stored))
        if unknown:
            raise DataError(f"{tuned}: the base model has no parameter {unknown[0]!r}")
        blocks: dict[int, list[tuple[str, str]]] = {}
        for name in sorted(stored):
            found = _BLOCK.search(name)
            if found:
                blocks.setdefault(int(found[1]), []).append((name, name[found.end() :]))
        for index in sorted(blocks):
            for name, inside in blocks[index]:
                before = stored[name].get_tensor(name)
                yield index, inside, before, learned.get_tensor(name) if name in changed else before


def measure_weight_change(*, subject: str, language_model: Path, tuned: Path, out: Path) -> None:
    """Compare a tuned subject's weights with the base model's and write one row per block."""
    check_model_folder(language_model)
    if (tuned / TENSORS).is_file():
        tensor_names(tuned / TENSORS)
        rows = weight_change_of_tensors(subject, language_model, tuned / TENSORS)
    else:
        # Imported only here: an adapter needs its model, and transformers takes seconds to import.
        from layersight.models.language import load_language_model

        base, _ = load_language_model(language_model, dtype=torch.float32)
        fresh, _ = load_language_model(language_model, dtype=torch.float32)
        rows = weight_change(subject, base, apply_delta(fresh, tuned))
    write_table(out, rows, SCHEMA)


def _by_block(subject: str, tensors: Iterable[BlockTensor]) -> list[dict[str, Any]]:
    return [
        _row(subject, block, ((before, after) for _, _, before, after in members))
        for block, members in groupby(tensors, key=itemgetter(0))
    ]


def _row(
    subject: str, block: int, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, Any]:
    difference = reference = 0.0
    for before, after in pairs:
        reference += float(before.double().square().sum())
        if after is not before:
            difference += float((after.double() - before.double()).square().sum())
    return {
        "subject": subject,
        "block": block,
        "difference_norm": difference**0.5,
        "reference_norm": reference**0.5,
        "relative_change": (difference / reference) ** 0.5,
    }
