import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from tests.unit.geometry.five_clouds import CLOUDS, N, distinct, gaussian, perturbed

from layersight.geometry.alignment import linear_cka
from layersight.geometry.dimension_correlation import (
    _permuted_dimensions,
    _squared_distances,
    dimension_correlation,
)

dadapy = pytest.importorskip("dadapy")


def two_nn_of_dadapy(x):
    return dadapy.Data(coordinates=x, maxk=3, n_jobs=1).compute_id_2NN(mu_fraction=0.9)[0]


def correlation(x, y, seed=0, resamples=20, **settings):
    return dimension_correlation(
        x, y, resamples=resamples, level=0.9, rng=np.random.default_rng(seed), **settings
    )


@CLOUDS
def test_dimensions_agree_with_dadapy_on_standardised_features(cloud):
    x = cloud()
    y = perturbed(x)
    found = correlation(x, y, permutations=3)
    kept = np.sort(np.unique(x, axis=0, return_index=True)[1])
    left, right = (StandardScaler().fit_transform(side[kept]) for side in (x, y))
    d_x, d_y = two_nn_of_dadapy(left), two_nn_of_dadapy(right)
    joint = two_nn_of_dadapy(np.hstack([left, right]))
    assert found.dimension_x == pytest.approx(d_x, rel=1e-6)
    assert found.dimension_y == pytest.approx(d_y, rel=1e-6)
    assert found.dimension_joint == pytest.approx(joint, rel=1e-6)
    assert found.value == pytest.approx((d_x + d_y - joint) / max(d_x, d_y), rel=1e-6)
    assert found.low < found.value < found.high
    assert (found.n, found.left_out) == (len(kept), len(x) - len(kept))


@CLOUDS
def test_permuted_dimensions_agree_with_dadapy_on_permuted_items(cloud):
    x = distinct(cloud())
    left, right = (StandardScaler().fit_transform(side) for side in (x, perturbed(x)))
    squared = _squared_distances(left), _squared_distances(right)
    found = _permuted_dimensions(*squared, 3, 0.9, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    for value in found:
        joint = np.hstack([left, right[rng.permutation(len(x))]])
        assert value == pytest.approx(two_nn_of_dadapy(joint), rel=1e-6)


def test_a_side_that_repeats_the_other_correlates_fully():
    x = gaussian()
    found = correlation(x, x[:, ::-1], permutations=19)
    assert found.value == pytest.approx(1, abs=1e-9)
    assert found.p_value == 1 / 20
    assert (found.metric, found.permutations) == ("dimension_correlation", 19)


def test_unrelated_sides_do_not_correlate():
    rng = np.random.default_rng(2)
    p_values, values = [], []
    for seed in range(20):
        x, y = rng.standard_normal((2, 120, 3))
        found = correlation(x, y, seed=seed, permutations=19, resamples=2)
        p_values.append(found.p_value)
        values.append(found.value)
    assert abs(np.mean(values)) < 0.35
    assert 0.3 < np.mean(p_values) < 0.7
    assert np.mean(np.array(p_values) <= 0.1) <= 0.25


def test_a_nonlinear_relation_that_cka_does_not_see_is_found():
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, (400, 2))
    y = np.stack([np.cos(5 * x[:, 0]), np.cos(5 * x[:, 1])], axis=1)
    assert linear_cka(x, y) < 0.05
    found = correlation(x, y, permutations=49)
    assert found.p_value == 1 / 50
    assert found.low > 0.3


def test_features_that_do_not_vary_count_for_nothing():
    x, y = gaussian(), perturbed(gaussian())
    padded = np.hstack([x, np.full((N, 3), 7.0)])
    assert correlation(padded, y, permutations=5).value == correlation(x, y, permutations=5).value


def test_copies_on_either_side_are_left_out_and_so_are_items_beyond_the_limit():
    x, y = gaussian(), perturbed(gaussian())
    x[5] = x[1]
    y[9] = y[2]
    assert (correlation(x, y, permutations=2).left_out) == 2
    found = correlation(x, y, permutations=2, most_items=100)
    assert (found.n, found.left_out) == (100, N - 100)


@pytest.mark.slow
def test_the_interval_is_at_least_as_wide_as_the_spread_over_samples_and_not_much_wider():
    rng = np.random.default_rng(4)
    estimates, widths = [], []
    for draw in range(150):
        shared = rng.standard_normal((150, 2))
        x = np.hstack([shared, rng.standard_normal((150, 2))])
        y = np.hstack([shared, rng.standard_normal((150, 2))])
        resamples = 60 if draw < 30 else 1
        found = dimension_correlation(x, y, resamples=resamples, level=0.8, rng=rng, permutations=1)
        estimates.append(found.value)
        if draw < 30:
            widths.append(found.high - found.low)
    # Wider, as the docstring says: 1.25 times on average.
    assert 1 < np.mean(widths) / (2 * 1.2816 * np.std(estimates)) < 1.5


def test_impossible_requests_are_refused_with_a_reason():
    x = gaussian()
    with pytest.raises(ValueError, match=r"\(n, d_x\)"):
        correlation(x, x[:-1])
    with pytest.raises(ValueError, match="1 distinct items"):
        correlation(x, np.ones((N, 2)))
    with pytest.raises(ValueError, match="permutations is 0"):
        correlation(x, x, permutations=0)
