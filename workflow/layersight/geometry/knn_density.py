"""Density around every point, from the distance to its k-th neighbour."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from layersight.geometry.intrinsic_dimension import checked_distances

Float64s = npt.NDArray[np.float64]


def knn_log_density(distances: Float64s, dimension: float, k: int) -> tuple[Float64s, float]:
    """Logarithm of the density at each point, and its standard error.

    log rho_i = log k - log n - log omega_d - d log r_ik, with r_ik the distance to neighbour k, d
    the intrinsic dimension and omega_d = pi^(d/2) / Gamma(d/2 + 1) the volume of the unit ball
    (Loftsgaarden and Quesenberry 1965, Ann. Math. Stat. 36:1049; as dadapy's
    `compute_density_kNN`). The number of neighbours in a ball is about Poisson, hence the same
    error 1 / sqrt(k) for every point; an error of `dimension` is not in it.

    Args:
        distances: `(n, >= k)`, to the nearest neighbours, nearest first, without the point itself;
            chords for the cosine metric.
        dimension: intrinsic dimension d, above 0.
        k: number of neighbours.

    Returns:
        `(n,)` float64, log of points per unit of length to the power of `dimension`, with the
        density integrating to 1; and the error.

    Raises:
        ValueError: for zero, non-finite or unsorted distances, `k` out of range, or a dimension
            that is not positive and finite.
    """
    checked = checked_distances(distances)
    if not 1 <= k <= checked.shape[1]:
        raise ValueError(f"k is {k}; the graph holds {checked.shape[1]} neighbours.")
    if not (math.isfinite(dimension) and dimension > 0):
        raise ValueError(f"dimension is {dimension}; it must be positive and finite.")
    log_ball = dimension / 2 * math.log(math.pi) - float(gammaln(dimension / 2 + 1))
    log_radius = np.log(checked[:, k - 1])
    log_density: Float64s = math.log(k / len(checked)) - log_ball - dimension * log_radius
    return log_density, 1 / math.sqrt(k)
