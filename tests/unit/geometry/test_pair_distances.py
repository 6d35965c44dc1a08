"""Distances of chosen pairs: products where they keep their digits, differences in doubt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layersight.geometry import pair_distances
from layersight.geometry.pair_distances import PairDistances
from layersight.geometry.tensor_work import Workers

N, D, C = 300, 40, 25


class Plain:
    """Vectors in memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = torch.from_numpy(values)
        self.n, self.d = values.shape
        self.device = torch.device("cpu")
        self.workers = Workers(1, None)

    def exact(self, which):
        return self.values[which].double().clone()


def chosen(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(5)
    block = torch.arange(0, n, 3)
    rows = [np.sort(rng.choice(n, C, replace=False)) for _ in block]
    return block, torch.from_numpy(np.stack(rows))


def by_difference(values, block, candidates):
    x = values.astype(np.float64)
    return ((x[candidates.numpy()] - x[block.numpy()][:, None]) ** 2).sum(axis=2)


def clouds():
    rng = np.random.default_rng(0)
    apart = rng.standard_normal((N, D))
    yield "apart", apart
    yield "far from the origin", apart + 1e3
    near = np.repeat(10 * rng.standard_normal((N // 3, D)), 3, axis=0)
    yield "near each other", near + 1e-6 * rng.standard_normal((N, D))
    yield "a grid with ties and copies", rng.integers(0, 2, (N, D)) + 0.0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("cloud", list(clouds()), ids=lambda cloud: cloud[0])
def test_distances_are_those_of_differences(cloud, dtype):
    values = cloud[1].astype(dtype)
    block, candidates = chosen(N)
    found = PairDistances(Plain(values), 2**20).squared(block, candidates).numpy()
    expected = by_difference(values, block, candidates)
    np.testing.assert_allclose(found, expected, rtol=2e-13)
    ranks = [np.argsort(each, axis=1, kind="stable") for each in (found, expected)]
    np.testing.assert_array_equal(*ranks)


def test_ties_and_near_pairs_are_measured_by_difference():
    values = dict(clouds())["a grid with ties and copies"]
    block, candidates = chosen(N)
    found = PairDistances(Plain(values), 2**20).squared(block, candidates).numpy()
    expected = by_difference(values, block, candidates)
    tied = (expected[:, :, None] == expected[:, None, :]).sum(axis=2) > 1
    assert tied.mean() > 0.5
    np.testing.assert_array_equal(found[tied], expected[tied])
    values = dict(clouds())["near each other"]
    expected = by_difference(values, block, candidates)
    found = PairDistances(Plain(values), 2**20).squared(block, candidates).numpy()
    near = expected < 1e-3
    assert near.any() and not near.all()
    # A product of vectors of length 60 would leave no digit of these.
    np.testing.assert_allclose(found[near], expected[near], rtol=1e-14)


@pytest.mark.parametrize("room", [32 * D, 32 * D * 7, 2**24])
def test_room_changes_no_bit(room):
    values = dict(clouds())["apart"].astype(np.float32)
    block, candidates = chosen(N)
    whole = PairDistances(Plain(values), 2**30).squared(block, candidates)
    assert torch.equal(PairDistances(Plain(values), room).squared(block, candidates), whole)
    few = PairDistances(Plain(values), room).squared(block[:1], candidates[:1])
    assert torch.equal(few, whole[:1])


def test_a_torch_without_products_of_pairs_measures_all_by_difference(monkeypatch):
    monkeypatch.setattr(pair_distances, "_products_of_pairs", lambda: False)
    values = dict(clouds())["apart"]
    block, candidates = chosen(N)
    found = PairDistances(Plain(values), 2**20).squared(block, candidates).numpy()
    np.testing.assert_allclose(found, by_difference(values, block, candidates), rtol=1e-15)
