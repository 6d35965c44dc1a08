"""How far tuning moved the weights of every block."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
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

_BLOCK = re.compile(r"\.layers\.(\d+)\.")

SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("block", pa.int32()),
        ("difference_norm", pa.float64()),
        ("reference_norm", pa.float64()),
        ("relative_change", pa.float64()),
    ]
)


@torch.no_grad()
def weight_change(subject: str, base: nn.Module, tuned: nn.Module) -> list[dict[str, Any]]:
    """Return for every block the Frobenius norm of the change of its weights, relative to the base.

    Adapters that act as a sum of weights (LoRA) are merged first, so that methods compare; `tuned`
    is changed by that.

    Args:
        subject: the tuned subject's name.
        base: the base language model.
        tuned: the tuned one, of the same architecture, possibly a PEFT model.
    """
    merge = getattr(tuned, "merge_and_unload", None)
    try:
        merged = merge() if callable(merge) else tuned
    except NotImplementedError:  # acts on activations
        merged = cast(Any, tuned).unload()
    return [
        _row(
            subject,
            index,
            ((old[name], new[name]) for name in old),
        )
        for index, (old, new) in enumerate(
            zip(
                (block.state_dict() for block in decoder_blocks(base)),
                (block.state_dict() for block in decoder_blocks(merged)),
                strict=True,
            )
        )
    ]


@torch.no_grad()
def weight_change_of_tensors(subject: str, base: Path, tuned: Path) -> list[dict[str, Any]]:
    """Return the same from files, tensor by tensor: no model is built, no two are in memory.

    Args:
        subject: the tuned subject's name.
        base: folder of the base language model.
        tuned: safetensors file with the tensors that learned, by the base model's names.
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
        blocks: dict[int, list[str]] = {}
        for name in sorted(stored):
            found = _BLOCK.search(name)
            if found:
                blocks.setdefault(int(found[1]), []).append(name)

        def pairs(names: Sequence[str]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for name in names:
                before = stored[name].get_tensor(name)
                yield before, learned.get_tensor(name) if name in changed else before

        return [_row(subject, index, pairs(blocks[index])) for index in sorted(blocks)]


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
