import numpy as np
import pytest
from tests.unit.geometry.five_clouds import CLOUDS, N

from layersight.geometry.neighbours import nearest_neighbours
from layersight.geometry.subsampling import (
    Measure,
    random_subsets,
    restricted_neighbours,
    subsampling_interval,
    subset_size,
)
from layersight.statistics import Interval


@CLOUDS
def test_neighbours_in_a_subset_are_those_that_a_search_in_it_finds(cloud):
    x = cloud()
    table = nearest_neighbours(x, 40)
    for members in random_subsets(N, resamples=3, fraction=0.7, rng=np.random.default_rng(0)):
        indices, distances = restricted_neighbours(table.indices, table.distances, members)
        assert 10 < indices.shape[1] < 40
        fresh = nearest_neighbours(x[members], indices.shape[1])
        np.testing.assert_array_equal(indices, fresh.indices)
        np.testing.assert_allclose(distances, fresh.distances, rtol=1e-13)


def test_a_row_without_neighbours_in_the_subset_leaves_an_empty_table():
    indices = np.array([[1], [0], [3], [2]])
    near, far = restricted_neighbours(indices, np.ones((4, 1)), np.array([0, 1, 2]))
    assert near.shape == far.shape == (3, 0)


def test_subsets_are_sorted_distinct_and_of_one_size():
    subsets = list(random_subsets(50, resamples=20, fraction=0.5, rng=np.random.default_rng(1)))
    assert len(subsets) == 20
    for rows in subsets:
        assert len(rows) == 25
        assert (np.diff(rows) > 0).all()
    assert len(np.unique(np.concatenate(subsets))) == 50


@pytest.mark.parametrize("fraction", [0.3, 0.8])
def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says(fraction):
    rng = np.random.default_rng(2)
    hits, widths = 0, []
    for _ in range(400):
        sample = rng.exponential(2.0, 120)
        subsets = random_subsets(120, resamples=150, fraction=fraction, rng=rng)
        found = subsampling_interval(
            sample.mean(),
            np.array([sample[rows].mean() for rows in subsets]),
            n=120,
            m=subset_size(120, fraction),
            level=0.8,
        )
        hits += found.low <= 2.0 <= found.high
        widths.append(found.high - found.low)
    assert hits / 400 == pytest.approx(0.8, abs=0.07)
    assert np.mean(widths) == pytest.approx(2 * 1.2816 * 2.0 / np.sqrt(120), rel=0.06)


def test_the_interval_stays_in_the_range_of_the_statistic():
    replicates = np.linspace(0.5, 1.0, 50)
    found = subsampling_interval(0.99, replicates, n=100, m=80, level=0.9, lowest=0.9, highest=1.0)
    assert (found.low, found.high) == (0.9, 1.0)


def test_what_is_undefined_has_no_interval():
    nan = float("nan")
    found = subsampling_interval(nan, np.ones(4), n=10, m=5, level=0.9)
    assert np.isnan([found.value, found.low, found.high]).all()
    found = subsampling_interval(2.0, np.array([1.0, nan]), n=10, m=5, level=0.9)
    assert found.value == 2.0
    assert np.isnan([found.low, found.high]).all()


def test_a_measure_is_a_named_interval():
    measure = Measure.of("peaks", Interval(3.0, 2.0, 4.0), 17)
    assert measure == Measure(value=3.0, low=2.0, high=4.0, metric="peaks", n=17)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_a_fraction_must_leave_two_items_and_not_all(fraction):
    with pytest.raises(ValueError, match="at least 2 and not all"):
        subset_size(5, fraction)


def test_impossible_intervals_are_refused():
    with pytest.raises(ValueError, match="level is 1"):
        subsampling_interval(1.0, np.ones(3), n=10, m=5, level=1)
    with pytest.raises(ValueError, match="at least one resample"):
        subsampling_interval(1.0, np.ones(0), n=10, m=5, level=0.9)
