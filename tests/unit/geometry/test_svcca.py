import numpy as np
import pytest
from scipy.linalg import subspace_angles
from scipy.special import gammaln
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from tests.unit.geometry.five_clouds import CLOUDS, N, gaussian, perturbed

from layersight.geometry.svcca import (
    leading_scores,
    mean_canonical_correlation,
    svcca,
    svcca_measures,
)


@CLOUDS
@pytest.mark.parametrize("variance", [0.95, 0.7])
def test_svcca_is_the_mean_cosine_of_angles_between_principal_subspaces(cloud, variance):
    x, y = cloud(), perturbed(cloud())
    scores = [PCA(variance, svd_solver="full").fit_transform(side) for side in (x, y)]
    expected = np.cos(subspace_angles(*scores)).mean()
    assert svcca(x, y, variance=variance) == pytest.approx(expected, rel=1e-8)
    for side, one in zip((x, y), scores, strict=True):
        found = leading_scores(side, variance)
        np.testing.assert_allclose(np.abs(found), np.abs(one), atol=1e-7 * np.abs(one).max())


def test_canonical_correlations_agree_with_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((200, 2))
    x = np.hstack([shared[:, :1] + rng.standard_normal((200, 1)), rng.standard_normal((200, 1))])
    y = shared @ rng.standard_normal((2, 3)) + 0.5 * rng.standard_normal((200, 3))
    left, right = CCA(n_components=2, max_iter=5000, tol=1e-14).fit_transform(x, y)
    expected = np.mean([np.corrcoef(left[:, i], right[:, i])[0, 1] for i in range(2)])
    assert mean_canonical_correlation(x, y) == pytest.approx(expected, rel=1e-5)


def test_more_features_than_items_give_the_same_scores():
    x = np.random.default_rng(1).standard_normal((30, 80))
    expected = PCA(0.9, svd_solver="full").fit_transform(x)
    np.testing.assert_allclose(np.abs(leading_scores(x, 0.9)), np.abs(expected), atol=1e-9)


def test_svcca_ignores_rotation_shift_and_scale():
    x = gaussian()
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((40, 40)))
    assert svcca(x, 7 * x @ rotation + 100) == pytest.approx(1, abs=1e-10)


def test_svcca_of_independent_data_lies_at_its_bias():
    # One Gaussian variable against r: the squared correlation follows Beta(r/2, (n - 1 - r)/2).
    rng = np.random.default_rng(3)
    n, r = 60, 8
    found = [
        svcca(rng.standard_normal((n, 1)), rng.standard_normal((n, r)), variance=1.0)
        for _ in range(400)
    ]
    a, b = r / 2, (n - 1) / 2
    expected = np.exp(gammaln(a + 0.5) - gammaln(a) + gammaln(b) - gammaln(b + 0.5))
    assert np.mean(found) == pytest.approx(expected, rel=0.03)


def test_all_variance_keeps_the_rank_and_no_rounding():
    x = gaussian()
    assert leading_scores(x, 1.0).shape == (N, 8)
    assert leading_scores(1e8 * x.astype(np.float32), 0.5).shape[1] < 8


@CLOUDS
def test_wrong_pairs_correlate_less_and_both_have_intervals(cloud):
    x, y = cloud(), perturbed(cloud())
    found = {
        one.metric: one
        for one in svcca_measures(x, y, resamples=40, level=0.9, rng=np.random.default_rng(4))
    }
    true, wrong = found["svcca"], found["svcca_random_pairs"]
    assert true.value == svcca(x, y)
    assert true.n == wrong.n == N
    assert 0 <= wrong.low <= wrong.value < true.low <= true.value <= true.high <= 1
    assert found["svcca_directions_x"].value == leading_scores(x).shape[1]
    assert found["svcca_directions_y"].value == leading_scores(y).shape[1]


def test_the_interval_is_as_wide_as_the_spread_over_samples():
    rng = np.random.default_rng(5)
    estimates, widths = [], []
    for draw in range(400):
        shared = rng.standard_normal((150, 3))
        x = shared + rng.standard_normal((150, 3))
        y = shared + rng.standard_normal((150, 3))
        estimates.append(svcca(x, y, variance=1.0))
        if draw < 30:
            found = svcca_measures(x, y, resamples=100, level=0.8, rng=rng, variance=1.0)[0]
            widths.append(found.high - found.low)
    assert np.mean(widths) == pytest.approx(2 * 1.2816 * np.std(estimates), rel=0.15)


def test_without_variation_svcca_is_undefined():
    same = np.tile(np.float32([0.1, 0.7]), (N, 1))
    assert np.isnan(svcca(gaussian(), same))
    found = svcca_measures(same, gaussian(), resamples=3, level=0.9, rng=np.random.default_rng(0))
    assert np.isnan([found[0].value, found[0].low, found[1].value]).all()
    assert found[2].value == 0


def test_impossible_requests_are_refused_with_a_reason():
    with pytest.raises(ValueError, match="variance is 0"):
        svcca(gaussian(), gaussian(), variance=0)
    with pytest.raises(ValueError, match="same items"):
        svcca_measures(
            np.ones((4, 2)), np.ones((5, 2)), resamples=2, level=0.9, rng=np.random.default_rng(0)
        )
    with pytest.raises(ValueError, match=r"\(n, r_x\)"):
        mean_canonical_correlation(np.ones((4, 2)), np.ones((5, 2)))
