import numpy as np
import pytest

from layersight.geometry import alignment
from layersight.geometry.alignment import (
    centred,
    cka_with_interval,
    linear_cka,
    paired_cosine,
    paired_cosines,
    subsampled_cka,
)
from layersight.geometry.overlap import derangement


def cka_by_definition(x, y):
    n = len(x)
    centring = np.eye(n) - 1 / n
    k, m = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    return np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))


def related(n, d_x, d_y, seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 4))
    x = 3 + shared @ rng.standard_normal((4, d_x)) + rng.standard_normal((n, d_x))
    y = shared @ rng.standard_normal((4, d_y)) + rng.standard_normal((n, d_y))
    return x, y


@pytest.mark.parametrize(("n", "d_x", "d_y"), [(60, 200, 150), (200, 40, 30), (100, 20, 300)])
def test_cka_is_its_definition_in_gram_and_in_feature_space(n, d_x, d_y):
    x, y = related(n, d_x, d_y)
    assert linear_cka(x, y) == pytest.approx(cka_by_definition(x, y), rel=1e-10)


@pytest.mark.parametrize("d", [20, 300])
def test_cka_ignores_rotation_shift_and_scale_and_nothing_else(d):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((100, d)) * np.linspace(0.1, 3, d)
    rotation, _ = np.linalg.qr(rng.standard_normal((d, d)))
    assert linear_cka(x, 7 * x @ rotation + 100) == pytest.approx(1, abs=1e-10)
    assert linear_cka(x, x * np.linspace(3, 0.1, d)) < 0.99


def test_cka_of_independent_data_lies_at_its_bias():
    rng = np.random.default_rng(2)
    values = [
        linear_cka(rng.standard_normal((800, 30)), rng.standard_normal((800, 60)))
        for _ in range(10)
    ]
    # HSIC(x, y) ~ n d_x d_y and HSIC(x, x) ~ n^2 d_x + n d_x^2 for independent unit Gaussians.
    expected = 30 * 60 * 800 / np.sqrt((800**2 * 30 + 800 * 900) * (800**2 * 60 + 800 * 3600))
    assert np.mean(values) == pytest.approx(expected, rel=0.05)


def test_float16_with_large_norms_does_not_overflow():
    x = (1e4 * np.random.default_rng(3).standard_normal((50, 20))).astype(np.float16)
    assert linear_cka(x, x) == pytest.approx(1)


def test_cka_without_variation_is_undefined():
    x, y = related(50, 10, 10)
    same = np.tile(np.float32([0.1, 0.7, -1.3]), (50, 1))
    for degenerate in (same, np.zeros((50, 3))):
        assert np.isnan(linear_cka(degenerate, y))
        interval = cka_with_interval(
            x, degenerate, resamples=10, level=0.9, rng=np.random.default_rng(0)
        )
        assert np.isnan([interval.value, interval.low, interval.high]).all()


@pytest.mark.parametrize(("n", "d_x", "d_y"), [(60, 200, 150), (150, 12, 20)])
@pytest.mark.parametrize("block_bytes", [2**28, 1])
def test_subsampled_cka_is_cka_of_the_subsets(monkeypatch, n, d_x, d_y, block_bytes):
    monkeypatch.setattr(alignment, "_BLOCK_BYTES", block_bytes)
    x, y = related(n, d_x, d_y)
    found = subsampled_cka(x, y, resamples=7, rng=np.random.default_rng(4))
    draws = np.random.default_rng(4)
    for value in found:
        subset = draws.permutation(n)[: int(0.8 * n)]
        assert value == pytest.approx(cka_by_definition(x[subset], y[subset]), rel=1e-9)


def test_subsets_without_variation_are_undefined():
    rng = np.random.default_rng(5)
    x = np.tile(rng.standard_normal(30), (40, 1))
    x[0] = rng.standard_normal(30)
    y = rng.standard_normal((40, 3))
    found = subsampled_cka(x, y, resamples=200, rng=np.random.default_rng(6))
    assert 0.1 < np.isnan(found).mean() < 0.3


def test_the_interval_is_as_wide_as_the_spread_over_samples():
    estimates, widths = [], []
    rng = np.random.default_rng(7)
    weights_x, weights_y = rng.standard_normal((4, 10)), rng.standard_normal((4, 10))
    for _ in range(150):
        shared = rng.standard_normal((200, 4))
        x = shared @ weights_x + 2 * rng.standard_normal((200, 10))
        y = shared @ weights_y + 2 * rng.standard_normal((200, 10))
        found = cka_with_interval(x, y, resamples=200, level=0.8, rng=rng)
        assert found.low <= found.value <= found.high
        estimates.append(found.value)
        widths.append(found.high - found.low)
    expected = 2 * 1.2816 * np.std(estimates)
    assert np.mean(widths) == pytest.approx(expected, rel=0.15)


def test_cosine_of_known_pairs():
    x = np.array([[1.0, 0.0], [1.0, 1.0], [3.0, 0.0], [0.0, 0.0]])
    y = np.array([[0.0, 2.0], [2.0, 2.0], [-1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(paired_cosine(x, y), [0, 1, -1, np.nan], atol=1e-15)


def test_centring_tells_true_pairs_from_wrong_ones_where_the_raw_cosine_cannot():
    rng = np.random.default_rng(8)
    direction = 30 * rng.standard_normal(64)
    shared = rng.standard_normal((300, 64))
    x = direction + shared + 0.3 * rng.standard_normal((300, 64))
    y = direction - 10 + shared + 0.3 * rng.standard_normal((300, 64))
    found = paired_cosines(x, y, rng=np.random.default_rng(0))
    assert found.raw.mean() > 0.9
    assert found.raw_random_pairs.mean() > 0.9
    assert found.centred.mean() > 0.85
    assert abs(found.centred_random_pairs.mean()) < 0.03


def test_wrong_pairs_are_a_derangement_of_the_rows():
    x, y = related(60, 8, 8)
    found = paired_cosines(x, y, rng=np.random.default_rng(1))
    order = derangement(60, np.random.default_rng(1))
    np.testing.assert_array_equal(found.raw, paired_cosine(x, y))
    np.testing.assert_array_equal(found.raw_random_pairs, paired_cosine(x, y[order]))
    np.testing.assert_allclose(
        found.centred_random_pairs, paired_cosine(x - x.mean(0), (y - y.mean(0))[order])
    )


def test_identical_rows_centre_to_exact_zero():
    same = np.tile(np.random.default_rng(9).standard_normal(100), (301, 1))
    assert not centred(same).any()
    found = paired_cosines(same, same, rng=np.random.default_rng(0))
    assert np.isnan(found.centred).all()
    np.testing.assert_allclose(found.raw, 1)


def test_arrays_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="same n of at least 2"):
        linear_cka(np.ones((3, 2)), np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"share one shape"):
        paired_cosine(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(ValueError, match="fraction 1.0 of 5 items"):
        subsampled_cka(
            np.ones((5, 2)),
            np.ones((5, 2)),
            resamples=3,
            rng=np.random.default_rng(0),
            fraction=1.0,
        )
