"""How far tuning moved each representation from where it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def relative_norm_of_difference(
    x_ref: npt.NDArray[np.floating[Any]], x_new: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.float64]:
    """Length of the change of each row, relative to the length of the reference row.

    `||x_new - x_ref|| / ||x_ref||`, in float64; 0 for an unchanged row, 1 for a row as far away
    as the origin.

    Args:
        x_ref: `(n, d)`, the reference.
        x_new: `(n, d)`, the same items in the same order and the same basis.

    Returns:
        `(n,)` float64, without unit; NaN where the reference row is zero.

    Raises:
        ValueError: when the shapes differ or are not `(n, d)`.
    """
    if x_ref.ndim != 2 or x_ref.shape != x_new.shape:
        raise ValueError(
            f"reference and new vectors must share one shape (n, d): {x_ref.shape}, {x_new.shape}."
        )
    reference = x_ref.astype(np.float64)
    lengths = np.linalg.norm(reference, axis=1)
    change = np.linalg.norm(x_new.astype(np.float64) - reference, axis=1)
    return np.divide(change, lengths, out=np.full(len(lengths), np.nan), where=lengths > 0)
