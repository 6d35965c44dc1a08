"""How far tuning moved every matrix of every block, and in how many directions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from layersight.models.deltas import ADAPTER, TENSORS, apply_delta
from layersight.models.safe_files import check_model_folder, tensor_names
from layersight.storage.tables import write_table
from layersight.tuning.weight_change import SCHEMA as WEIGHT_CHANGE
from layersight.tuning.weight_change import BlockTensor, tensors_of_files, tensors_of_models

WHOLE_BLOCK = "all"

# One row per block and tensor of it, and one for the whole block, whose `matrix` is "all".
# `relative_change` is the Frobenius norm of the difference over that of the base weights;
# `effective_rank` that of the difference (0 if nothing moved, NaN for vectors, which have none) and
# `largest_rank` what it can be at most (0 for vectors).
MATRIX_CHANGE = pa.schema(
    [
        ("subject", pa.string()),
        ("block", pa.int32()),
        ("matrix", pa.string()),
        ("parameters", pa.int64()),
        ("difference_norm", pa.float64()),
        ("reference_norm", pa.float64()),
        ("relative_change", pa.float64()),
        ("effective_rank", pa.float64()),
        ("largest_rank", pa.int32()),
    ]
)


def effective_rank(singular_values: torch.Tensor) -> float:
    """Effective rank exp(-sum_i p_i log p_i), p_i = s_i / sum_j s_j (Roy & Vetterli 2007).

    It is r for r equal singular values, and lies between 1 and the rank otherwise.

    Args:
        singular_values: `(n,)`, none negative.

    Returns:
        The effective rank; 0 if there is none above 0.
    """
    values = singular_values.double()
    values = values[values > 0]
    if not len(values):
        return 0.0
    shares = values / values.sum()
    return float(torch.exp(-(shares * shares.log()).sum()))


def singular_values(matrix: torch.Tensor, noise: float = 0.0) -> torch.Tensor:
    """Singular values from the eigenvalues of the smaller Gram matrix, in float64.

    A third of the time of a decomposition. What it loses, values below sqrt(n eps) (4e-7 at
    n = 576) of the largest, becomes 0: so a product of r columns has r values.

    Args:
        matrix: `(rows, columns)`; of a tensor with more axes the last ones count as columns.
        noise: values up to this are rounding, and become 0 as well.

    Returns:
        `(min(rows, columns),)` float64, ascending.
    """
    flat = matrix.double().flatten(1)
    gram = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    squares = torch.linalg.eigvalsh(gram).clamp(min=0.0)
    lost = len(squares) * torch.finfo(torch.float64).eps * squares.amax()
    values = squares.sqrt()
    return torch.where((squares > lost) & (values > noise), values, 0.0)


@torch.no_grad()
def matrix_change(subject: str, base: nn.Module, tuned: nn.Module) -> list[dict[str, Any]]:
    """Return the rows of `MATRIX_CHANGE` of a tuned model.

    Merging an adapter rounds: of weights W in float32 each entry is off by 2^-24 of its size, so
    that the difference carries noise of a norm up to 2^-24 ||W||, in all directions. Singular
    values up to that bound are left out where an adapter was merged.

    Args:
        subject: the tuned subject's name.
        base: the base language model.
        tuned: the tuned one, see `weight_change.tensors_of_models`; it is changed.
    """
    merged = hasattr(tuned, "merge_and_unload")
    return list(_rows(subject, tensors_of_models(base, tuned), merged=merged))


@torch.no_grad()
def matrix_change_of_tensors(subject: str, base: Path, tuned: Path) -> list[dict[str, Any]]:
    """Return the same from files, tensor by tensor: no model is built, no two are in memory.

    Args:
        subject: the tuned subject's name.
        base: folder of the base language model.
        tuned: safetensors file with the tensors that learned, by the base model's names.

    Raises:
        DataError: a tensor learned that the base model does not have.
    """
    return list(_rows(subject, tensors_of_files(base, tuned), merged=False))


def measure_weights(
    *, subject: str, language_model: Path, tuned: Path, out: Path, matrices_out: Path
) -> None:
    """Compare a tuned subject's weights with the base model's, by block and by matrix.

    Both tables come from one reading of the weights.

    Args:
        subject: the tuned subject's name.
        language_model: folder of the base language model.
        tuned: the subject's folder, with an adapter or with the tensors that learned.
        out: table with the schema `weight_change.SCHEMA`, one row a block.
        matrices_out: table with the schema `MATRIX_CHANGE`.

    Raises:
        DataError: the delta does not fit this base model.
    """
    rows = _measured(subject, language_model, tuned)
    whole = [
        {name: row[name] for name in WEIGHT_CHANGE.names}
        for row in rows
        if row["matrix"] == WHOLE_BLOCK
    ]
    write_table(out, whole, WEIGHT_CHANGE)
    write_table(matrices_out, rows, MATRIX_CHANGE)


def measure_matrix_change(*, subject: str, language_model: Path, tuned: Path, out: Path) -> None:
    """Compare a tuned subject's matrices with the base model's; write `MATRIX_CHANGE`.

    Args:
        subject: the tuned subject's name.
        language_model: folder of the base language model.
        tuned: the subject's folder, with an adapter or with the tensors that learned.
        out: the table.

    Raises:
        DataError: the delta does not fit this base model.
    """
    write_table(out, _measured(subject, language_model, tuned), MATRIX_CHANGE)


def _measured(subject: str, language_model: Path, tuned: Path) -> list[dict[str, Any]]:
    check_model_folder(language_model)
    if (tuned / TENSORS).is_file() and not (tuned / ADAPTER).is_dir():
        tensor_names(tuned / TENSORS)
        return matrix_change_of_tensors(subject, language_model, tuned / TENSORS)
    # Imported only here: an adapter needs its model, and transformers takes seconds to import.
    from layersight.models.language import load_language_model

    base, _ = load_language_model(language_model, dtype=torch.float32)
    fresh, _ = load_language_model(language_model, dtype=torch.float32)
    return matrix_change(subject, base, apply_delta(fresh, tuned))


def _rows(
    subject: str, tensors: Iterable[BlockTensor], *, merged: bool
) -> Iterator[dict[str, Any]]:
    for block, members in groupby(tensors, key=itemgetter(0)):
        rows: list[dict[str, Any]] = []
        spectra: list[torch.Tensor] = []
        for _, name, before, after in members:
            reference = float(before.double().square().sum())
            difference, rank, largest = 0.0, 0.0, 0
            if before.ndim > 1:
                largest = min(before.shape[0], before[0].numel())
            if after is not before:
                delta = after.double() - before.double()
                difference = float(delta.square().sum())
            if difference and largest:
                unit = torch.finfo(after.dtype).eps / 2 if merged else 0.0
                spectra.append(singular_values(delta, noise=unit * reference**0.5))
                rank = effective_rank(spectra[-1])
            rows.append(
                _row(name, before.numel(), difference, reference)
                | {"effective_rank": rank if largest else float("nan"), "largest_rank": largest}
            )
        # The block's matrices side by side, as one with them along its diagonal.
        rows.append(
            _row(
                WHOLE_BLOCK,
                sum(row["parameters"] for row in rows),
                sum(row["difference_norm"] ** 2 for row in rows),
                sum(row["reference_norm"] ** 2 for row in rows),
            )
            | {
                "effective_rank": effective_rank(torch.cat(spectra)) if spectra else 0.0,
                "largest_rank": sum(row["largest_rank"] for row in rows),
            }
        )
        for row in rows:
            yield {"subject": subject, "block": block, **row}


def _row(matrix: str, parameters: int, difference: float, reference: float) -> dict[str, Any]:
    """Norms from sums of squares."""
    return {
        "matrix": matrix,
        "parameters": parameters,
        "difference_norm": difference**0.5,
        "reference_norm": reference**0.5,
        "relative_change": (difference / reference) ** 0.5 if reference else float("nan"),
    }
