"""Exact nearest neighbours of a cloud of vectors, in bounded memory.

Large matrix products in low precision are fast and nearly right; distances by difference in
float64 are right and slow. The search uses the first to choose candidates and the second to rank
them, and keeps an answer only where a rounding-error bound proves that no vector outside the
candidates can belong to it. Other rows go through double precision, and at last through every
distance, so the answer is always that of a float64 brute force.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from layersight.errors import DataError

Metric = Literal["euclidean", "cosine"]
Vectors = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]

_MEBIBYTE = 2**20
_CHUNK_ENTRIES = 2**20


class NeighboursError(DataError, ValueError):
    """Neighbours that do not exist, or cannot be found in the memory that is allowed."""


@dataclass(frozen=True)
class Neighbours:
    """The `k` nearest neighbours of each of `n` vectors, nearest first, without the vector itself.

    Attributes:
        indices: `(n, k)` int32, row numbers.
        distances: `(n, k)` float64, in the units of the vectors (euclidean) or `1 - cos` (cosine).
        duplicates: number of rows that are exact copies of an earlier row.
        settled: number of rows whose neighbours were proven by products in float32, by products
            in float64, and only by all distances; they add up to n.
    """

    indices: npt.NDArray[np.int32]
    distances: Float64s
    duplicates: int
    settled: tuple[int, int, int]


def first_equal_rows(vectors: Vectors) -> npt.NDArray[np.intp]:
    """Return for every row the number of the first row that equals it, itself if there is none.

    Args:
        vectors: `(n, d)`, any float dtype. 0.0 and -0.0 count as equal.

    Returns:
        `(n,)` int.
    """
    seen: dict[bytes, list[int]] = {}
    first = np.arange(len(vectors))
    for row, vector in enumerate(vectors):
        # Adding zero turns -0.0 into 0.0, so that equal rows have equal bytes.
        digest = hashlib.blake2b((vector + vector.dtype.type(0)).tobytes(), digest_size=16).digest()
        earlier = seen.setdefault(digest, [])
        for other in earlier:
            if np.array_equal(vector, vectors[other]):
                first[row] = other
                break
        else:
            earlier.append(row)
    return first


def first_copies(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Mark the rows that are not an exact copy of an earlier row.

    Args:
        vectors: `(n, d)`, any float dtype.

    Returns:
        `(n,)` bool; `~first_copies(x)` marks the duplicates. 0.0 and -0.0 count as equal.
    """
    marked: npt.NDArray[np.bool_] = first_equal_rows(vectors) == np.arange(len(vectors))
    return marked


def nearest_neighbours(
    vectors: Vectors,
    k: int,
    *,
    metric: Metric = "euclidean",
    device: str = "cpu",
    memory_mb: int = 1024,
    count_duplicates: bool = True,
) -> Neighbours:
    """Find the `k` nearest neighbours of every row, exactly.

    A row is never its own neighbour (it is excluded by its index, so copies of it are kept), and
    equal distances are ordered by index. Candidates are ranked by a lower bound on their squared
    distance: with unit round-off u, centred rows c and s = ||c_i|| + ||c_j||, the computed
    ||c_i||^2 + ||c_j||^2 - 2 c_i.c_j is off by at most (gamma_d / 2 + 16 u) s^2, where
    gamma_d = d u / (1 - d u) bounds a dot product in any order of summation (Higham 2002,
    "Accuracy and Stability of Numerical Algorithms", section 3.1). A row is settled when its k-th
    exact distance lies below the bound of everything that is no candidate.

    All amounts of memory give the same numbers, bit for bit. Another kind of processor may add up
    in another order, so that distances differ in the last bit.

    Args:
        vectors: `(n, d)`, float16, float32 or float64.
        k: number of neighbours, `1 <= k < n`.
        metric: "euclidean", or "cosine" for `1 - cos`, computed as half the squared distance of
            the rows scaled to length one (which keeps its digits for nearly parallel rows).
        device: where to search, as torch names it ("cpu", "cuda", "cuda:1").
        memory_mb: what may be allocated beside the vectors, results included, in MiB; on a GPU,
            beside its copy of the vectors. No `n x n` array exists at any time. With more memory
            than twice a float32 copy of the vectors the search is at its fastest.
        count_duplicates: False where the caller knows that there are none.

    Raises:
        NeighboursError: for `k` outside `1..n-1`, an array that is not 2-d, non-finite values, an
            unknown metric, a zero vector under "cosine", or too little memory. It is a ValueError.
    """
    values = _checked(vectors, k, metric)
    from layersight.geometry.neighbour_search import least_memory, search

    least = -(-least_memory(*values.shape, k) // _MEBIBYTE)
    if memory_mb < least:
        raise NeighboursError(
            f"memory_mb is {memory_mb}; {k} neighbours of {len(values)} vectors of "
            f"{values.shape[1]} numbers need at least {least} (MiB)."
        )
    norms = _lengths(values) if metric == "cosine" else None
    found = search(values, k, norms=norms, device=device, memory=memory_mb * _MEBIBYTE)
    distances = found.squared
    if metric == "cosine":
        distances /= 2
    else:
        np.sqrt(distances, out=distances)
    duplicates = int(np.count_nonzero(~first_copies(values))) if count_duplicates else 0
    return Neighbours(found.indices, distances, duplicates, found.settled)


def check_finite(vectors: Vectors) -> None:
    """Refuse vectors that hold NaN or infinity.

    Args:
        vectors: `(n, d)`, any float dtype.

    Raises:
        NeighboursError: with their number and the first row.
    """
    finite = np.concatenate([np.isfinite(chunk).all(axis=1) for chunk in _chunks(vectors)])
    if not finite.all():
        raise NeighboursError(
            f"{np.count_nonzero(~finite)} of {len(vectors)} vectors hold NaN or infinity "
            f"(the first is row {int(np.argmin(finite))})."
        )


def zero_rows(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Mark the rows that have no direction: those whose length in float64 is zero.

    Args:
        vectors: `(n, d)`, any float dtype.

    Returns:
        `(n,)` bool.
    """
    marked: npt.NDArray[np.bool_] = _lengths(vectors) == 0
    return marked


def _lengths(vectors: Vectors) -> Float64s:
    # In chunks, so that no float64 copy of the whole is made.
    lengths = [np.linalg.norm(chunk.astype(np.float64), axis=1) for chunk in _chunks(vectors)]
    return np.concatenate(lengths)


def _chunks(vectors: Vectors) -> list[Vectors]:
    length = max(1, _CHUNK_ENTRIES // vectors.shape[1])
    return [vectors[start : start + length] for start in range(0, len(vectors), length)]


def _checked(vectors: Vectors, k: int, metric: Metric) -> Vectors:
    values = np.asarray(vectors)
    if values.ndim != 2 or values.shape[1] == 0:
        raise NeighboursError(f"vectors must have shape (n, d) with d > 0, not {values.shape}.")
    if values.dtype not in (np.float16, np.float32, np.float64):
        values = values.astype(np.float64)
    n = len(values)
    if not 1 <= k < n:
        raise NeighboursError(
            f"k is {k}, but {n} vectors have between 1 and {n - 1} neighbours each."
        )
    if metric not in ("euclidean", "cosine"):
        raise NeighboursError(f"metric is {metric!r}; known are 'euclidean' and 'cosine'.")
    check_finite(values)
    if metric == "cosine" and (zero := zero_rows(values)).any():
        raise NeighboursError(
            f"the cosine of a zero vector is undefined (row {int(np.argmax(zero))} of {n} is zero)."
        )
    return np.ascontiguousarray(values)
