"""The tokens of one prompt as a cloud: its dimension, how it moves from layer to layer, its spread.

Viswanathan et al. 2025, "The geometry of tokens in internal representations of large language
models": one cloud per prompt and layer, whose points are the residuals of all tokens, and as a
control the same prompt with its blocks of tokens shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.geometry.intrinsic_dimension import gride
from layersight.geometry.neighbours import Neighbours, first_copies, nearest_neighbours
from layersight.geometry.overlap import neighbourhood_overlap

Vectors = npt.NDArray[np.floating[Any]]

FEWEST_TOKENS = 10
"""Distinct tokens that a dimension is estimated from, at least."""


@dataclass(frozen=True)
class CloudValue:
    """One number of one cloud.

    Attributes:
        layer: layer 0..L; of an overlap the later one of the two.
        metric: "gride" (intrinsic dimension), "overlap" (with the layer before), "cosine_mean" or
            "cosine_std" (over all pairs of tokens, each with itself included).
        k: the larger neighbour rank n2 of GRIDE, the neighbours of an overlap, 0 of cosines.
        n: number of tokens used.
        value: the number; NaN where there are too few distinct tokens.
    """

    layer: int
    metric: str
    k: int
    n: int
    value: float


def cloud_values(
    residuals: Vectors,
    *,
    gride_range_max: int = 256,
    ks: Sequence[int] = (2,),
    first_token: bool = False,
) -> list[CloudValue]:
    """Measure the cloud of one prompt at every layer.

    Exact copies of a token's vector (at layer 0 the same word, where positions are rotary) are
    dropped: for the dimension within the layer; for the overlap where either of the two layers has
    them; and for the cosine as for the dimension.

    Args:
        residuals: `(layers, tokens, d)`, layer 0 first.
        gride_range_max: largest neighbour rank of GRIDE; scales are n2 = 2, 4, 8, ...
        ks: numbers of neighbours of the overlaps.
        first_token: keep the first token. It draws massive activations, is far from all others and
            pulls the cosine, so that it is left out otherwise.

    Returns:
        For every layer all scales of GRIDE and both cosines, and from layer 1 on all overlaps.

    Raises:
        ValueError: an array that is not `(layers, tokens, d)`, numbers that are not finite, a range
            below 2 or a k below 1.
    """
    if residuals.ndim != 3 or 0 in residuals.shape:
        raise ValueError(f"residuals must have shape (layers, tokens, d), not {residuals.shape}.")
    if gride_range_max < 2 or any(k < 1 for k in ks):
        raise ValueError(
            f"gride_range_max is {gride_range_max} and ks are {tuple(ks)}; the range must be at "
            "least 2, each k at least 1."
        )
    if not np.isfinite(residuals).all():
        raise ValueError("residuals hold NaN or infinity.")
    clouds = residuals if first_token else residuals[:, 1:]
    values = []
    before: _Cloud | None = None
    for layer, vectors in enumerate(clouds):
        cloud = _Cloud.of(vectors, max(gride_range_max, *ks))
        values += _dimensions(layer, cloud, gride_range_max)
        values += _cosines(layer, cloud.distinct)
        if before is not None:
            values += _overlaps(layer, before, cloud, ks)
        before = cloud
    return values


@dataclass(frozen=True)
class _Cloud:
    """The tokens of one layer.

    Attributes:
        vectors: `(tokens, d)`.
        kept: `(tokens,)`, those that copy no earlier one.
        near: neighbours among those, for all metrics; None where they are too few.
    """

    vectors: Vectors
    kept: npt.NDArray[np.bool_]
    near: Neighbours | None

    @classmethod
    def of(cls, vectors: Vectors, ranks: int) -> _Cloud:
        kept = first_copies(vectors)
        n = int(np.count_nonzero(kept))
        near = None
        if n >= FEWEST_TOKENS:
            near = nearest_neighbours(vectors[kept], min(ranks, n - 1), count_duplicates=False)
        return cls(vectors, kept, near)

    @property
    def distinct(self) -> Vectors:
        return self.vectors[self.kept]

    def among(self, kept: npt.NDArray[np.bool_], k: int) -> npt.NDArray[np.int32]:
        """Return the k nearest neighbours among some of the tokens."""
        if self.near is not None and np.array_equal(kept, self.kept):
            return self.near.indices[:, :k]
        return nearest_neighbours(self.vectors[kept], k, count_duplicates=False).indices


def pairwise_cosine(x: Vectors) -> tuple[float, float]:
    """Mean and standard deviation of the cosine over all n^2 ordered pairs of rows.

    Pairs of a row with itself are included, as in the source, so that the mean is
    ||sum_i u_i||^2 / n^2 for rows u_i of length one; the mean square comes from the smaller of the
    two Gram matrices.

    Args:
        x: `(n, d)`; zero rows, which have no direction, are left out.

    Returns:
        Mean and standard deviation (over n^2 values, without correction); NaN without rows.
    """
    rows = x.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    rows = rows[lengths > 0] / lengths[lengths > 0, np.newaxis]
    n = len(rows)
    if n == 0:
        return float("nan"), float("nan")
    mean = float(np.sum(rows.sum(axis=0) ** 2)) / n**2
    gram = rows @ rows.T if n < rows.shape[1] else rows.T @ rows
    mean_square = float(np.sum(gram**2)) / n**2
    return mean, float(np.sqrt(max(0.0, mean_square - mean**2)))


def shuffled_blocks(tokens: int, blocks: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Order of the tokens after the prompt was cut into equal blocks and the blocks shuffled.

    Args:
        tokens: number of tokens.
        blocks: number of blocks, which differ by one token at most; 1 keeps the order, and as many
            as tokens (or more) shuffles single tokens.
        rng: draws the order of the blocks.

    Returns:
        `(tokens,)`, a permutation.

    Raises:
        ValueError: no token or no block.
    """
    if tokens < 1 or blocks < 1:
        raise ValueError(f"{tokens} tokens in {blocks} blocks; at least one of each is needed.")
    parts = np.array_split(np.arange(tokens), min(blocks, tokens))
    order: npt.NDArray[np.intp] = np.concatenate([parts[i] for i in rng.permutation(len(parts))])
    return order


def shuffle_levels(tokens: int, largest: int = 5) -> list[tuple[int, int]]:
    """Levels S of shuffling and their numbers of blocks, 4^S up to the number of tokens.

    Levels beyond the first that shuffles single tokens would repeat it and are left out.

    Args:
        tokens: number of tokens.
        largest: largest S.

    Returns:
        `(S, blocks)` with S = 0, 1, ..., where S = 0 is the prompt as it is.
    """
    levels = []
    for level in range(largest + 1):
        levels.append((level, min(4**level, tokens)))
        if 4**level >= tokens:
            break
    return levels


def _dimensions(layer: int, cloud: _Cloud, gride_range_max: int) -> list[CloudValue]:
    n = int(np.count_nonzero(cloud.kept))
    scales = [2**i for i in range(1, gride_range_max.bit_length())]
    found: dict[int, float] = {}
    if cloud.near is not None:
        distances = cloud.near.distances
        if (distances[:, 0] > 0).all():  # a gap may be lost to underflow
            estimates = gride(distances, min(scales[-1], distances.shape[1]))
            found = {estimate.n2: estimate.dimension for estimate in estimates}
    finite = {n2: value if np.isfinite(value) else np.nan for n2, value in found.items()}
    return [CloudValue(layer, "gride", n2, n, finite.get(n2, float("nan"))) for n2 in scales]


def _cosines(layer: int, distinct: Vectors) -> list[CloudValue]:
    mean, deviation = pairwise_cosine(distinct)
    n = int(np.count_nonzero(distinct.any(axis=1)))
    return [
        CloudValue(layer, "cosine_mean", 0, n, mean),
        CloudValue(layer, "cosine_std", 0, n, deviation),
    ]


def _overlaps(layer: int, before: _Cloud, after: _Cloud, ks: Sequence[int]) -> list[CloudValue]:
    kept = before.kept & after.kept
    n = int(np.count_nonzero(kept))
    # With few more tokens than neighbours, any two clouds agree.
    usable = [k for k in ks if n >= 3 * k]
    means: dict[int, float] = {}
    if usable:
        a, b = (cloud.among(kept, max(usable)) for cloud in (before, after))
        means = {k: float(neighbourhood_overlap(a, b, k).mean()) for k in usable}
    return [CloudValue(layer, "overlap", k, n, means.get(k, float("nan"))) for k in ks]
