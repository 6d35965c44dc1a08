"""Exact nearest neighbours of a cloud of vectors, in bounded memory.

Large matrix products in low precision are fast and nearly right; distances by difference in
float64 are right and slow. The search uses the first to choose candidates and the second to rank
them, and keeps an answer only where a rounding-error bound proves that no vector outside the
candidates can belong to it. Other rows go through double precision, and at last through every
distance, so the answer is always that of a float64 brute force.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Metric = Literal["euclidean", "cosine"]
Vectors = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]

_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Neighbours:
    """The `k` nearest neighbours of each of `n` vectors, nearest first, without the vector itself.

    Attributes:
        indices: `(n, k)` int32, row numbers.
        distances: `(n, k)` float64, in the units of the vectors (euclidean) or `1 - cos` (cosine).
        duplicates: number of rows that are exact copies of an earlier row.
    """

    indices: npt.NDArray[np.int32]
    distances: Float64s
    duplicates: int


def first_copies(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Mark the rows that are not an exact copy of an earlier row.

    Args:
        vectors: `(n, d)`, any float dtype.

    Returns:
        `(n,)` bool; `~first_copies(x)` marks the duplicates. 0.0 and -0.0 count as equal.
    """
    seen: dict[bytes, list[int]] = {}
    first = np.ones(len(vectors), dtype=np.bool_)
    for row, vector in enumerate(vectors):
        # Adding zero turns -0.0 into 0.0, so that equal rows have equal bytes.
        digest = hashlib.blake2b((vector + vector.dtype.type(0)).tobytes(), digest_size=16).digest()
        earlier = seen.setdefault(digest, [])
        if any(np.array_equal(vector, vectors[other]) for other in earlier):
            first[row] = False
        else:
            earlier.append(row)
    return first


def nearest_neighbours(
    vectors: Vectors, k: int, *, metric: Metric = "euclidean", block_mb: int = 256
) -> Neighbours:
    """Find the `k` nearest neighbours of every row, exactly.

    A row is never its own neighbour (it is excluded by its index, so copies of it are kept), and
    equal distances are ordered by index. Candidates are ranked by a lower bound on their squared
    distance: with unit round-off u, centred rows c and s = ||c_i|| + ||c_j||, the computed
    ||c_i||^2 + ||c_j||^2 - 2 c_i.c_j is off by at most (gamma_d / 2 + 16 u) s^2, where
    gamma_d = d u / (1 - d u) bounds a dot product in any order of summation (Higham 2002,
    "Accuracy and Stability of Numerical Algorithms", section 3.1). A row is settled when its k-th
    exact distance lies below the bound of everything that is no candidate.

    Args:
        vectors: `(n, d)`, float16, float32 or float64.
        k: number of neighbours, `1 <= k < n`.
        metric: "euclidean", or "cosine" for `1 - cos`, computed as half the squared distance of
            the rows scaled to length one (which keeps its digits for nearly parallel rows).
        block_mb: working memory of the blocks in MiB, beside copies of the vectors; no `n x n`
            array exists at any time.

    Raises:
        ValueError: for `k` outside `1..n-1`, an array that is not 2-d, non-finite values, an
            unknown metric, or a zero vector under "cosine".
    """
    rows = _Rows.checked(vectors, k, metric)
    if block_mb < 1:
        raise ValueError(f"block_mb is {block_mb}; it must be at least 1 (MiB).")
    block_bytes = block_mb * _MEBIBYTE
    n = rows.n
    indices = np.empty((n, k), dtype=np.int32)
    squared = np.empty((n, k), dtype=np.float64)
    pending: npt.NDArray[np.intp] = np.arange(n)
    for precision in (np.float32, np.float64):
        if pending.size:
            pending = _settle_by_products(rows, pending, indices, squared, precision, block_bytes)
    _settle_by_differences(rows, pending, indices, squared, block_bytes)
    distances = squared / 2 if metric == "cosine" else np.sqrt(squared)
    duplicates = int(np.count_nonzero(~first_copies(rows.values)))
    return Neighbours(indices, distances, duplicates)


@dataclass(frozen=True)
class _Rows:
    """The vectors as given, and how to read any of them in float64."""

    values: Vectors
    norms: Float64s | None  # (n,), for cosine only
    metric: Metric

    @classmethod
    def checked(cls, vectors: Vectors, k: int, metric: Metric) -> _Rows:
        values = np.asarray(vectors)
        if values.ndim != 2 or values.shape[1] == 0:
            raise ValueError(f"vectors must have shape (n, d) with d > 0, not {values.shape}.")
        if not np.issubdtype(values.dtype, np.floating):
            values = values.astype(np.float64)
        n = len(values)
        if not 1 <= k < n:
            raise ValueError(
                f"k is {k}, but {n} vectors have between 1 and {n - 1} neighbours each."
            )
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"{np.count_nonzero(~finite)} of {n} vectors hold NaN or infinity "
                f"(the first is row {int(np.argmin(finite))})."
            )
        if metric == "euclidean":
            return cls(values, None, metric)
        if metric != "cosine":
            raise ValueError(f"metric is {metric!r}; known are 'euclidean' and 'cosine'.")
        # In chunks, so that no float64 copy of the whole is made.
        spans = _spans(n, _MEBIBYTE // values.shape[1])
        norms = np.concatenate(
            [np.linalg.norm(values[span].astype(np.float64), axis=1) for span in spans]
        )
        if (norms == 0).any():
            raise ValueError(
                "the cosine of a zero vector is undefined "
                f"(row {int(np.argmin(norms))} of {n} is zero)."
            )
        return cls(values, norms, metric)

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def d(self) -> int:
        return int(self.values.shape[1])

    def exact(self, which: slice | npt.NDArray[np.integer[Any]]) -> Float64s:
        chosen = self.values[which].astype(np.float64)
        if self.norms is not None:
            chosen /= self.norms[which][:, np.newaxis]
        return chosen


def _spans(total: int, length: int) -> Iterator[slice]:
    length = max(1, length)
    for start in range(0, total, length):
        yield slice(start, min(start + length, total))


def _squared_lengths(differences: Float64s) -> Float64s:
    # One routine for every exact distance: the order of summation within a row is then the same
    # everywhere, and copies of a vector get bit-identical distances. Overwrites its argument.
    np.square(differences, out=differences)
    total: Float64s = differences.sum(axis=-1)
    return total


def _settle_by_products(
    rows: _Rows,
    pending: npt.NDArray[np.intp],
    indices: npt.NDArray[np.int32],
    squared: Float64s,
    precision: type[np.float32 | np.float64],
    block_bytes: int,
) -> npt.NDArray[np.intp]:
    """Fill in the rows whose neighbours can be proven; return those whose cannot."""
    n, d, k = rows.n, rows.d, indices.shape[1]
    n_candidates = min(n - 1, k + max(16, k // 2))
    unit = float(np.finfo(precision).eps) / 2
    slack = 1.01 * (0.5 * (d + 1) * unit / (1 - (d + 1) * unit) + 16 * unit)
    scaled, scale = _centred(rows, precision, slack, block_bytes)
    # The last column carries the slack, and the norm is that of the others.
    lengths = np.empty(n, dtype=np.float64)
    for span in _spans(n, block_bytes // (16 * d)):
        lengths[span] = np.square(scaled[span, :-1].astype(np.float64)).sum(axis=1)
    lengths *= 1 - slack
    column_term = lengths.astype(precision)
    # Products below the smallest normal number lose digits in absolute, not relative, terms.
    underflow = 16 * d * float(np.finfo(precision).tiny)
    rounding = 1 + 8 * d * float(np.finfo(np.float64).eps)

    unproven = []
    for span in _spans(len(pending), block_bytes // (n * (scaled.itemsize + 8))):
        block = pending[span]
        bounds = scaled[block] @ scaled.T
        bounds *= -2
        bounds += column_term
        bounds[np.arange(len(block)), block] = np.inf
        if n_candidates < n - 1:
            order = np.argpartition(bounds, n_candidates, axis=1)
            at_cut = np.take_along_axis(bounds, order[:, n_candidates, np.newaxis], axis=1)[:, 0]
            cut = at_cut.astype(np.float64) + lengths[block] - underflow
            candidates = order[:, :n_candidates]
        else:
            cut = np.full(len(block), np.inf)
            everything = np.broadcast_to(np.arange(n), (len(block), n))
            candidates = everything[everything != block[:, np.newaxis]].reshape(-1, n - 1)
        # Sorted by index first, so that a stable sort by distance breaks ties by index.
        candidates = np.sort(candidates, axis=1)
        for part in _spans(len(block), block_bytes // (16 * d * n_candidates)):
            others = rows.exact(candidates[part].ravel()).reshape(-1, n_candidates, d)
            others -= rows.exact(block[part])[:, np.newaxis, :]
            _keep_nearest(block[part], candidates[part], _squared_lengths(others), indices, squared)
        with np.errstate(over="ignore"):
            proven = squared[block, -1] * scale**2 * rounding < cut
        unproven.append(block[~proven])
    return np.concatenate(unproven)


def _centred(
    rows: _Rows, precision: type[np.float32 | np.float64], slack: float, block_bytes: int
) -> tuple[Vectors, float]:
    """Rows minus their mean, times a power of two that brings them within one; one more column.

    Returns the `(n, d + 1)` rows and the factor. Centring removes what all rows share (anisotropy,
    a massive constant dimension), which would otherwise eat the digits of the products. With the
    extra column `sqrt(slack) ||c||`, a product of two rows is their dot product plus
    `slack ||c_i|| ||c_j||`: the error term for free.
    """
    spans = list(_spans(rows.n, block_bytes // (32 * rows.d)))
    mean = sum(rows.exact(span).sum(axis=0) for span in spans) / rows.n
    largest = max(float(np.abs(rows.exact(span) - mean).max()) for span in spans)
    scale = 2.0 ** -np.ceil(np.log2(largest)) if largest > 0 else 1.0
    centred: Vectors = np.empty((rows.n, rows.d + 1), dtype=precision)
    for span in spans:
        centred[span, :-1] = (rows.exact(span) - mean) * scale
        norms = np.linalg.norm(centred[span, :-1].astype(np.float64), axis=1)
        centred[span, -1] = np.sqrt(slack) * norms
    return centred, float(scale)


def _settle_by_differences(
    rows: _Rows,
    pending: npt.NDArray[np.intp],
    indices: npt.NDArray[np.int32],
    squared: Float64s,
    block_bytes: int,
) -> None:
    """Fill in rows from all their distances: the last resort, for crowds of ties."""
    n = rows.n
    for block in (pending[span] for span in _spans(len(pending), block_bytes // (32 * n))):
        to_all = np.empty((len(block), n), dtype=np.float64)
        own = rows.exact(block)
        for columns in _spans(n, block_bytes // (32 * rows.d)):
            others = rows.exact(columns)
            for position in range(len(block)):
                to_all[position, columns] = _squared_lengths(others - own[position])
        to_all[np.arange(len(block)), block] = np.inf
        every_index = np.broadcast_to(np.arange(n), to_all.shape)
        _keep_nearest(block, every_index, to_all, indices, squared)


def _keep_nearest(
    block: npt.NDArray[np.intp],
    candidates: npt.NDArray[np.intp],
    squared_distances: Float64s,
    indices: npt.NDArray[np.int32],
    squared: Float64s,
) -> None:
    # Ranked by the root, because that is what callers see: two squares may differ in the last
    # bit and have one root, and then the index must decide.
    order = np.argsort(np.sqrt(squared_distances), axis=1, kind="stable")[:, : indices.shape[1]]
    indices[block] = np.take_along_axis(candidates, order, axis=1)
    squared[block] = np.take_along_axis(squared_distances, order, axis=1)
