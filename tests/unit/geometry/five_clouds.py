"""Five clouds that differ in what goes wrong: the measures are checked on each of them."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_swiss_roll

from layersight.geometry.neighbours import first_copies

N = 260


def gaussian():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((40, 8)))
    return rng.standard_normal((N, 8)) @ basis.T


def swiss_roll():
    return make_swiss_roll(N, noise=0.05, random_state=1)[0]


def clustered():
    return make_blobs(N, n_features=12, centers=5, cluster_std=2.0, random_state=2)[0]


def with_duplicates():
    x = np.random.default_rng(3).standard_normal((N, 6))
    x[40:60] = x[:20]
    x[60] = x[0]
    return x


def one_massive_dimension():
    x = np.random.default_rng(4).standard_normal((N, 24))
    x[:, 7] = 1e3 * (1 + 0.1 * x[:, 7])
    return x


ALL = [gaussian, swiss_roll, clustered, with_duplicates, one_massive_dimension]
CLOUDS = pytest.mark.parametrize("cloud", ALL)


def distinct(x):
    return x[first_copies(x)]


def perturbed(x, seed=5):
    """The same items, seen through a random map with noise."""
    rng = np.random.default_rng(seed)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    seen = scaled @ rng.standard_normal((x.shape[1], x.shape[1] + 2))
    return seen + 0.5 * seen.std() * rng.standard_normal(seen.shape)
