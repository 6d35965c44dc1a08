import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics.pairwise import paired_cosine_distances
from sklearn.preprocessing import StandardScaler, normalize
from tests.unit.geometry.five_clouds import CLOUDS, N, gaussian

from layersight.geometry.modality import (
    centroid_distance,
    cosine_measures,
    gap_measures,
    modality_gap,
    relative_centroid_distance,
)
from layersight.geometry.overlap import derangement
from layersight.geometry.subsampling import random_subsets, subsampling_interval


def other_side(x, seed=6):
    rng = np.random.default_rng(seed)
    return x + 0.5 * x.std() * rng.standard_normal(x.shape) + 0.3 * rng.standard_normal(x.shape[1])


def by_name(measures):
    return {one.metric: one for one in measures}


@CLOUDS
def test_cosines_agree_with_scikit_learn_and_their_intervals_with_scipy(cloud):
    x, y = cloud(), other_side(cloud())
    found = by_name(cosine_measures(x, y, resamples=1500, level=0.9, rng=np.random.default_rng(0)))
    order = derangement(N, np.random.default_rng(0))
    centred = [StandardScaler(with_std=False).fit_transform(side) for side in (x, y)]
    for prefix, left, right in (("cosine", x, y), ("centred_cosine", *centred)):
        true = 1 - paired_cosine_distances(left, right)
        wrong = 1 - paired_cosine_distances(left, right[order])
        for name, values in (("", true), ("random_pairs_", wrong)):
            for statistic in (np.mean, np.median):
                one = found[f"{prefix}_{name}{statistic.__name__}"]
                assert one.value == pytest.approx(statistic(values), rel=1e-7, abs=1e-9)
                ends = bootstrap(
                    (values,), statistic, n_resamples=1500, confidence_level=0.9,
                    method="percentile", rng=np.random.default_rng(1),
                ).confidence_interval  # fmt: skip
                width = ends.high - ends.low
                assert one.low == pytest.approx(ends.low, abs=0.15 * width)
                assert one.high == pytest.approx(ends.high, abs=0.15 * width)
                assert one.n == N
        above = found[f"{prefix}_above_random"]
        assert above.value == pytest.approx(true.mean() - wrong.mean(), abs=1e-9)
        assert above.low <= above.value <= above.high


def test_a_shared_direction_hides_the_pairs_from_the_raw_cosine_only():
    x = gaussian() + 40
    found = by_name(
        cosine_measures(x, other_side(x), resamples=100, level=0.95, rng=np.random.default_rng(2))
    )
    assert found["cosine_random_pairs_mean"].value > 0.99
    assert abs(found["centred_cosine_random_pairs_mean"].value) < 0.1
    assert found["centred_cosine_above_random"].low > 0.3


def test_items_without_a_direction_are_left_out_and_counted():
    x = gaussian()
    x[:7] = 0
    found = cosine_measures(x, x, resamples=5, level=0.9, rng=np.random.default_rng(3))
    assert {one.n for one in found} < set(range(N - 15, N - 6))
    none = cosine_measures(
        np.zeros((5, 2)), np.ones((5, 2)), resamples=5, level=0.9, rng=np.random.default_rng(3)
    )
    assert all(one.n == 0 and np.isnan(one.value) for one in none)
    assert [one.metric for one in none] == [one.metric for one in found]


@CLOUDS
def test_gaps_are_those_of_the_means(cloud):
    x, y = cloud(), other_side(cloud())
    sphere = np.linalg.norm(normalize(x).mean(axis=0) - normalize(y).mean(axis=0))
    distance = np.linalg.norm(x.mean(axis=0) - y.mean(axis=0))
    spread = np.sqrt((np.trace(np.cov(x.T, ddof=0)) + np.trace(np.cov(y.T, ddof=0))) / 2)
    assert modality_gap(x, y) == pytest.approx(sphere, rel=1e-9)
    assert centroid_distance(x, y) == pytest.approx(distance, rel=1e-9)
    assert relative_centroid_distance(x, y) == pytest.approx(distance / spread, rel=1e-9)
    found = by_name(gap_measures(x, y, resamples=20, level=0.9, rng=np.random.default_rng(4)))
    assert found["modality_gap"].value == pytest.approx(sphere, rel=1e-9)
    assert found["centroid_distance"].value == pytest.approx(distance, rel=1e-9)
    assert found["relative_centroid_distance"].value == pytest.approx(distance / spread, rel=1e-9)


@CLOUDS
def test_intervals_and_controls_are_those_of_the_public_functions(cloud):
    x, y = cloud(), other_side(cloud())
    found = by_name(gap_measures(x, y, resamples=12, level=0.9, rng=np.random.default_rng(5)))
    rng = np.random.default_rng(5)
    subsets = list(random_subsets(N, resamples=12, fraction=0.8, rng=rng))
    tosses = rng.integers(0, 2, size=(12, N))[:, :, np.newaxis] == 1
    for statistic in (modality_gap, centroid_distance, relative_centroid_distance):
        expected = subsampling_interval(
            statistic(x, y),
            np.array([statistic(x[rows], y[rows]) for rows in subsets]),
            n=N, m=int(0.8 * N), level=0.9, lowest=0.0,
        )  # fmt: skip
        one = found[statistic.__name__]
        assert [one.low, one.high] == pytest.approx([expected.low, expected.high], rel=1e-8)
        swapped = [statistic(np.where(t, y, x), np.where(t, x, y)) for t in tosses]
        control = found[f"{statistic.__name__}_swapped"]
        assert control.value == pytest.approx(np.mean(swapped), rel=1e-8)
        ends = np.quantile(swapped, [0.05, 0.95])
        assert [control.low, control.high] == pytest.approx(ends, rel=1e-8)


def test_gaps_of_known_clouds():
    x, y = np.tile([3.0, 0.0], (4, 1)), np.tile([0.0, 0.5], (6, 1))
    assert modality_gap(x, y) == pytest.approx(np.sqrt(2))
    assert modality_gap(x, -x) == pytest.approx(2)
    assert centroid_distance(x, y) == pytest.approx(np.hypot(3, 0.5))
    assert np.isnan(relative_centroid_distance(x, y))
    spread = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert relative_centroid_distance(spread, spread + np.array([0, 3])) == pytest.approx(3)


def test_sides_that_do_not_vary_have_no_relative_distance():
    x, y = (np.tile(np.float32(row), (N, 1)) for row in ([0.1, 0.7, -1.3], [0.3, 0.7, 2.1]))
    assert np.isnan(relative_centroid_distance(x, y))
    found = by_name(gap_measures(x, y, resamples=5, level=0.9, rng=np.random.default_rng(8)))
    assert np.isnan(found["relative_centroid_distance"].value)
    assert found["centroid_distance"].value == pytest.approx(np.hypot(0.2, 3.4))


def test_the_control_tells_a_gap_from_none():
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((2, 200, 10))
    none = by_name(gap_measures(x, y, resamples=300, level=0.95, rng=rng))
    shifted = by_name(gap_measures(x, y + 0.5, resamples=300, level=0.95, rng=rng))
    for name in ("modality_gap", "centroid_distance", "relative_centroid_distance"):
        control = none[f"{name}_swapped"]
        assert control.low <= none[name].value <= control.high
        assert shifted[name].low > shifted[f"{name}_swapped"].high


def test_the_interval_of_a_gap_is_as_wide_as_the_spread_over_samples():
    rng = np.random.default_rng(7)
    widths = []
    for _ in range(60):
        x, y = rng.standard_normal((2, 100, 4)) + np.array([0, 1])[:, None, None]
        found = by_name(gap_measures(x, y, resamples=100, level=0.8, rng=rng))["centroid_distance"]
        widths.append(found.high - found.low)
    # Along the line through both means, a difference of two means of 100 has variance 2 / 100.
    assert np.mean(widths) == pytest.approx(2 * 1.2816 * np.sqrt(2 / 100), rel=0.05)


def test_a_zero_vector_has_no_place_on_the_sphere():
    x = gaussian()
    x[3] = 0
    with pytest.raises(ValueError, match="row 3 is zero"):
        modality_gap(x, x)
    found = gap_measures(x, x, resamples=3, level=0.9, rng=np.random.default_rng(0))
    assert {one.n for one in found} == {N - 1}


def test_arrays_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="the same d"):
        centroid_distance(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(ValueError, match="share one shape"):
        gap_measures(
            np.ones((3, 2)), np.ones((4, 2)), resamples=3, level=0.9, rng=np.random.default_rng(0)
        )
    with pytest.raises(ValueError, match="resamples is 0"):
        cosine_measures(
            np.ones((3, 2)), np.ones((3, 2)), resamples=0, level=0.9, rng=np.random.default_rng(0)
        )
