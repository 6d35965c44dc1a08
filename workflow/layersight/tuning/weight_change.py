"""How far tuning moved the weights of every block."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import torch
from torch import nn

from layersight.models.blocks import decoder_blocks
from layersight.models.deltas import apply_delta
from layersight.models.language import load_language_model
from layersight.storage.tables import write_table

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
    rows = []
    for index, (old, new) in enumerate(
        zip(decoder_blocks(base), decoder_blocks(merged), strict=True)
    ):
        before, after = old.state_dict(), new.state_dict()
        difference = sum(
            float((after[name].double() - before[name].double()).square().sum()) for name in before
        )
        reference = sum(float(before[name].double().square().sum()) for name in before)
        rows.append(
            {
                "subject": subject,
                "block": index,
                "difference_norm": difference**0.5,
                "reference_norm": reference**0.5,
                "relative_change": (difference / reference) ** 0.5,
            }
        )
    return rows


def measure_weight_change(*, subject: str, language_model: Path, tuned: Path, out: Path) -> None:
    """Compare a tuned subject's weights with the base model's and write one row per block."""
    base, _ = load_language_model(language_model, dtype=torch.float32)
    fresh, _ = load_language_model(language_model, dtype=torch.float32)
    write_table(out, weight_change(subject, base, apply_delta(fresh, tuned)), SCHEMA)
