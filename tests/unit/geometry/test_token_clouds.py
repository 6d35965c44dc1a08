"""Token clouds, against dadapy and scikit-learn on the same tokens."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from layersight.geometry.token_clouds import (
    cloud_values,
    pairwise_cosine,
    shuffle_levels,
    shuffled_blocks,
)

dadapy = pytest.importorskip("dadapy")


def residuals(tokens=220, layers=3, d=24, seed=0):
    """A random walk over layers, whose first token is far from all others."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((layers, tokens, d))
    steps[:, 0] *= 200
    return np.cumsum(steps, axis=0).astype(np.float32)


def numbers(values, metric):
    return {(v.layer, v.k): v.value for v in values if v.metric == metric}


@pytest.mark.parametrize("first_token", [False, True])
def test_dimension_and_overlap_are_those_of_dadapy(first_token):
    x = residuals()
    found = cloud_values(x, gride_range_max=64, ks=(2, 5), first_token=first_token)
    kept = x.astype(np.float64)[:, 0 if first_token else 1 :]
    dimension, overlap = numbers(found, "gride"), numbers(found, "overlap")
    assert set(dimension) == {(layer, n2) for layer in range(3) for n2 in (2, 4, 8, 16, 32, 64)}
    assert set(overlap) == {(layer, k) for layer in (1, 2) for k in (2, 5)}
    for layer in range(3):
        data = dadapy.Data(coordinates=kept[layer], maxk=100)
        data.compute_distances(maxk=100)
        expected, _, _ = data.return_id_scaling_gride(range_max=64)
        scales = [dimension[layer, 2**i] for i in range(1, 7)]
        np.testing.assert_allclose(scales, expected, rtol=1e-6)
        if layer:
            for k in (2, 5):
                shared = data.return_data_overlap(coordinates=kept[layer - 1], k=k)
                assert overlap[layer, k] == pytest.approx(shared, abs=1e-12)
    assert {v.n for v in found} == {kept.shape[1]}


@pytest.mark.parametrize("d", [8, 300])
def test_cosines_are_those_over_the_whole_matrix(d):
    x = np.random.default_rng(1).standard_normal((50, d)) + 0.5
    matrix = cosine_similarity(x)
    assert pairwise_cosine(x) == pytest.approx((matrix.mean(), matrix.std()), rel=1e-9)
    assert pairwise_cosine(np.vstack([x, np.zeros(d)])) == pairwise_cosine(x)
    found = cloud_values(np.stack([x, x]), first_token=True)
    assert numbers(found, "cosine_mean")[1, 0] == pytest.approx(matrix.mean(), rel=1e-9)
    assert numbers(found, "cosine_std")[1, 0] == pytest.approx(matrix.std(), rel=1e-9)


def test_one_direction_has_cosine_one_and_no_spread():
    assert pairwise_cosine(np.arange(1.0, 9)[:, np.newaxis] * np.ones(5)) == pytest.approx(
        (1, 0), abs=1e-7
    )
    assert np.isnan(pairwise_cosine(np.zeros((3, 2)))).all()


def test_repeated_tokens_do_not_count():
    x = residuals()
    repeated = np.concatenate([x, x[:, 1:60]], axis=1)
    assert cloud_values(repeated, gride_range_max=64) == cloud_values(x, gride_range_max=64)
    # Repeated in the first layer only, as words are before the first block.
    only_first = np.concatenate([x, np.concatenate([x[:1, 1:60], 3 + 2 * x[1:, 1:60]])], axis=1)
    found = cloud_values(only_first, ks=(3,))
    counts = {(v.layer, v.metric): v.n for v in found}
    assert counts[0, "gride"] == counts[0, "cosine_mean"] == 219
    assert counts[1, "gride"] == counts[2, "overlap"] == 219 + 59
    assert counts[1, "overlap"] == 219


def test_the_first_token_pulls_the_cosine_and_is_left_out():
    x = residuals(tokens=50)
    x[:, :, 0] += 3
    moved = x.copy()
    moved[:, 0] = 1e4
    found, expected = (cloud_values(cloud, gride_range_max=16) for cloud in (moved, x))
    assert found == expected
    with_first, plain = (
        numbers(cloud_values(cloud, first_token=True), "cosine_mean") for cloud in (moved, x)
    )
    assert abs(with_first[1, 0] - plain[1, 0]) > 1e-4


def test_short_prompts_have_no_numbers_and_no_error():
    for tokens in (1, 2, 9):
        found = cloud_values(residuals(tokens=tokens), gride_range_max=8, ks=(3,))
        assert all(np.isnan(v.value) for v in found if v.metric in ("gride", "overlap"))
        assert len(found) == 3 * (3 + 2) + 2
    assert len(cloud_values(residuals(tokens=11), gride_range_max=8)) == 3 * 5 + 2
    found = numbers(cloud_values(residuals(tokens=11), gride_range_max=16), "gride")
    assert np.isfinite(found[1, 8]) and np.isnan(found[1, 16])


def test_residuals_that_are_not_finite_are_refused():
    x = residuals(tokens=20)
    x[1, 3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        cloud_values(x)
    with pytest.raises(ValueError, match="shape"):
        cloud_values(x[0])
    with pytest.raises(ValueError, match="each k at least 1"):
        cloud_values(residuals(tokens=20), ks=(0,))


@pytest.mark.parametrize(("tokens", "blocks"), [(64, 4), (67, 16), (10, 64), (10, 1), (1, 4)])
def test_shuffling_moves_whole_blocks(tokens, blocks):
    order = shuffled_blocks(tokens, blocks, np.random.default_rng(0))
    assert sorted(order) == list(range(tokens))
    starts = {part[0] for part in np.array_split(np.arange(tokens), min(blocks, tokens))}
    # A token follows the one before it, unless a block begins.
    for before, after in pairwise(order):
        assert after == before + 1 or after in starts
    assert len(starts) == min(blocks, tokens)


def test_all_orders_of_the_blocks_are_equally_likely():
    rng = np.random.default_rng(0)
    seen = [tuple(shuffled_blocks(3, 3, rng)) for _ in range(6000)]
    counts = np.unique(seen, axis=0, return_counts=True)[1]
    assert len(counts) == 6
    # Chi-square with 5 degrees of freedom passes 25.7 once in 10,000 times.
    assert np.sum((counts - 1000) ** 2 / 1000) < 25.7


def test_levels_of_shuffling_end_with_single_tokens():
    assert shuffle_levels(1024) == [(0, 1), (1, 4), (2, 16), (3, 64), (4, 256), (5, 1024)]
    assert shuffle_levels(40) == [(0, 1), (1, 4), (2, 16), (3, 40)]
    assert shuffle_levels(1024, 2) == [(0, 1), (1, 4), (2, 16)]
    assert shuffle_levels(5000)[-1] == (5, 1024)
