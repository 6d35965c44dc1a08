import numpy as np
import pytest
from scipy.stats import entropy
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize
from tests.unit.geometry.five_clouds import CLOUDS, N, gaussian, one_massive_dimension

from layersight.geometry.spectrum import (
    anisotropy,
    effective_rank,
    gram_spectrum,
    participation_ratio,
    spectrum_entropy,
    spectrum_measures,
)


@CLOUDS
def test_the_spectrum_is_the_share_of_variance_of_principal_components(cloud):
    x = cloud()
    expected = PCA(svd_solver="full").fit(x).explained_variance_ratio_
    np.testing.assert_allclose(gram_spectrum(x), expected, rtol=1e-7, atol=1e-13)


@CLOUDS
def test_measures_agree_with_a_singular_value_decomposition(cloud):
    x = cloud()
    centred = x - x.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    assert effective_rank(x) == pytest.approx(np.exp(entropy(singular)), rel=1e-5)
    covariance = np.cov(x.T)
    ratio = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    assert participation_ratio(x) == pytest.approx(ratio, rel=1e-9)
    gram = normalize(centred) @ normalize(centred).T
    spectrum = np.clip(np.linalg.eigvalsh(gram / np.trace(gram)), 0, None)
    expected = entropy(spectrum) / np.log(min(x.shape))
    assert spectrum_entropy(x) == pytest.approx(expected, rel=1e-6)


@CLOUDS
def test_anisotropy_is_the_mean_cosine_of_different_items(cloud):
    x = cloud()
    cosines = cosine_similarity(x)[np.triu_indices(N, k=1)]
    assert anisotropy(x) == pytest.approx(cosines.mean(), rel=1e-9, abs=1e-12)


def test_more_features_than_items_are_measured_through_the_gram_matrix():
    x = np.random.default_rng(1).standard_normal((20, 60))
    expected = PCA(svd_solver="full").fit(x).explained_variance_ratio_
    np.testing.assert_allclose(gram_spectrum(x), expected, atol=1e-13)
    assert gram_spectrum(x)[-1] == 0
    assert effective_rank(x) < 19


@pytest.mark.parametrize("d", [2, 7])
def test_a_cross_has_every_direction_alike(d):
    x = 5 * np.vstack([np.eye(d), -np.eye(d)])
    assert spectrum_entropy(x) == pytest.approx(1)
    assert effective_rank(x) == pytest.approx(d)
    assert participation_ratio(x) == pytest.approx(d)
    # Of the 2d - 1 others of each item, one points the other way and the rest are orthogonal.
    assert anisotropy(x) == pytest.approx(-1 / (2 * d - 1))


def test_a_line_has_one_direction():
    x = np.outer(np.arange(1.0, 9.0), [3.0, 4.0, 0.0])
    assert spectrum_entropy(x) == pytest.approx(0, abs=1e-12)
    assert effective_rank(x) == pytest.approx(1)
    assert participation_ratio(x) == pytest.approx(1)
    assert anisotropy(x) == pytest.approx(1)


def test_one_massive_dimension_takes_the_spectrum_but_not_what_is_left_without_it():
    x = one_massive_dimension()
    assert gram_spectrum(x)[0] > 0.99
    assert participation_ratio(x) < 1.01
    assert anisotropy(x) > 0.99
    rest = np.delete(x, 7, axis=1)
    assert participation_ratio(rest) > 18
    assert abs(anisotropy(rest)) < 0.02


@CLOUDS
def test_all_measures_have_an_interval_around_the_value(cloud):
    x = cloud()
    found = spectrum_measures(x, resamples=30, level=0.9, rng=np.random.default_rng(2))
    values = [
        spectrum_entropy(x), effective_rank(x), participation_ratio(x), gram_spectrum(x)[0],
        anisotropy(x),
    ]  # fmt: skip
    assert [one.metric for one in found] == [
        "spectrum_entropy", "effective_rank", "participation_ratio", "top_variance_share",
        "anisotropy",
    ]  # fmt: skip
    for one, value in zip(found, values, strict=True):
        assert one.value == pytest.approx(value, rel=1e-12)
        assert one.low <= one.value <= one.high
        assert one.low < one.high
        assert one.n == N


def test_intervals_are_as_wide_as_the_spread_over_samples():
    rng = np.random.default_rng(3)
    scales = np.linspace(0.5, 3, 6)
    estimates, widths = [], []
    for _ in range(120):
        x = 2 + rng.standard_normal((200, 6)) * scales
        found = spectrum_measures(x, resamples=80, level=0.8, rng=rng)
        estimates.append([one.value for one in found])
        widths.append([one.high - one.low for one in found])
    expected = 2 * 1.2816 * np.std(estimates, axis=0)
    np.testing.assert_allclose(np.mean(widths, axis=0), expected, rtol=0.2)


def test_float16_with_large_norms_does_not_overflow():
    x = (2e4 * np.random.default_rng(4).standard_normal((40, 10))).clip(-6e4, 6e4)
    narrow = x.astype(np.float16)
    assert effective_rank(narrow) == pytest.approx(effective_rank(x), rel=1e-3)


def test_without_variation_the_spectrum_is_undefined():
    same = np.tile(np.float32([0.1, 0.7, -1.3]), (20, 1))
    for measure in (spectrum_entropy, effective_rank, participation_ratio):
        assert np.isnan(measure(same))
    assert anisotropy(same) == pytest.approx(1)
    assert np.isnan(anisotropy(np.zeros((5, 2))))


def test_zero_rows_have_no_cosine():
    x = gaussian()
    with_zeros = np.vstack([x, np.zeros((9, x.shape[1]))])
    assert anisotropy(with_zeros) == pytest.approx(anisotropy(x), abs=1e-12)


def test_clouds_of_one_item_are_refused():
    for measure in (gram_spectrum, anisotropy):
        with pytest.raises(ValueError, match="n of at least 2"):
            measure(np.ones((1, 3)))
