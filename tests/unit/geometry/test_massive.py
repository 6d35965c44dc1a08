import numpy as np
import pytest
from scipy.stats import norm
from tests.unit.geometry.five_clouds import CLOUDS, N, one_massive_dimension

from layersight.geometry.massive import massive_activations, massive_measures


def planted(dtype=np.float32):
    x = np.random.default_rng(0).standard_normal((N, 32))
    x[:, 5] = -2000 * (1 + 0.01 * x[:, 5])
    x[: N // 4, 19] = 1500.0
    return x.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_planted_dimensions_are_found(dtype):
    x = planted(dtype)
    found = massive_activations(x, shown=3)
    table = found.dimensions
    assert table["dimension"].tolist()[:2] == [5, 19]
    assert table["massive"].tolist() == [True, True, False]
    assert table["items"].tolist() == [N, N // 4, 0]
    assert table["item_share"].tolist() == [1, 0.25, 0]
    assert table["largest"][0] == pytest.approx(-np.abs(x[:, 5].astype(float)).max())
    assert table["largest"][1] == 1500
    squares = x.astype(np.float64) ** 2
    expected = squares.sum(axis=0)[table["dimension"]] / squares.sum()
    np.testing.assert_allclose(table["norm_share"], expected, rtol=1e-12)
    assert found.item_massive.all()
    assert found.n == N


def test_the_usual_magnitude_of_gaussian_values_is_their_median():
    x = np.random.default_rng(1).standard_normal((400, 500))
    found = massive_activations(x, shown=2)
    assert found.usual == pytest.approx(norm.ppf(0.75), rel=0.01)
    assert not found.item_massive.any()
    np.testing.assert_allclose(found.dimensions["ratio"], 1, atol=0.25)


@CLOUDS
def test_a_value_is_massive_when_both_conditions_hold(cloud):
    x = cloud()
    size = np.abs(x)
    expected = (size > 2) & (size / np.median(size, axis=1, keepdims=True) >= 3)
    found = massive_activations(x, magnitude=2, ratio=3, shown=0)
    items = expected.sum(axis=0)
    assert sorted(found.dimensions["dimension"]) == np.flatnonzero(items).tolist()
    np.testing.assert_array_equal(found.dimensions["items"], items[found.dimensions["dimension"]])
    np.testing.assert_array_equal(found.item_massive, expected.any(axis=1))


def test_large_vectors_without_an_outlier_are_not_massive():
    x = 1e4 * (1 + np.random.default_rng(2).random((50, 20)))
    assert not massive_activations(x).item_massive.any()
    small = np.full((50, 20), 1e-3)
    small[:, 4] = 50
    assert not massive_activations(small).item_massive.any()
    assert massive_activations(small, magnitude=10).item_massive.all()


def test_dimensions_with_the_largest_values_are_shown_though_none_is_massive():
    x = np.random.default_rng(3).standard_normal((50, 20)) * np.arange(1, 21)
    table = massive_activations(x, shown=4).dimensions
    assert len(table) == 4
    assert set(table["dimension"]) == set(np.argsort(-np.abs(x).max(axis=0))[:4])
    assert table["norm_share"].is_monotonic_decreasing


def test_shares_have_bootstrap_intervals():
    x = planted()
    x[: N // 2, 5] = 0
    found = massive_measures(x, resamples=800, level=0.9, rng=np.random.default_rng(4))
    items, share, count = found
    assert [one.metric for one in found] == [
        "massive_items", "massive_norm_share", "massive_dimensions"
    ]  # fmt: skip
    # Half the items by dimension 5 and, of the other half, half by dimension 19.
    assert items.value == 0.75
    half = 1.645 * np.sqrt(0.75 * 0.25 / N)
    assert items.low == pytest.approx(0.75 - half, abs=0.3 * half)
    assert items.high == pytest.approx(0.75 + half, abs=0.3 * half)
    squares = x.astype(np.float64) ** 2
    assert share.value == pytest.approx(squares[:, [5, 19]].sum() / squares.sum(), rel=1e-12)
    assert share.low < share.value < share.high
    assert count.value == 2
    assert np.isnan(count.low)


def test_without_massive_values_there_is_no_share():
    x = np.random.default_rng(5).standard_normal((40, 8))
    items, share, count = massive_measures(x, resamples=20, level=0.9, rng=np.random.default_rng(6))
    assert (items.value, items.high, share.value, share.high, count.value) == (0, 0, 0, 0, 0)
    zero = massive_measures(np.zeros((6, 3)), resamples=5, level=0.9, rng=np.random.default_rng(7))
    assert np.isnan([zero[1].value, zero[1].low]).all()


def test_the_massive_cloud_has_one_massive_dimension():
    found = massive_activations(one_massive_dimension(), ratio=500)
    assert found.dimensions.query("massive")["dimension"].tolist() == [7]


def test_impossible_requests_are_refused_with_a_reason():
    with pytest.raises(ValueError, match="n and d of at least 1"):
        massive_activations(np.ones((0, 3)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        massive_activations(np.array([[np.inf, 1.0]]))
