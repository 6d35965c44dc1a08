import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from layersight import statistics
from layersight.statistics import (
    Interval,
    bootstrap_mean,
    bootstrap_statistic,
    paired_difference,
    recovery,
    resampled_means,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def scores() -> NDArray[np.float64]:
    return generator(5).gamma(2.0, size=40)


def test_interval_of_the_mean_is_scipys_percentile_interval(scores: NDArray[np.float64]) -> None:
    expected = stats.bootstrap(
        (scores,),
        np.mean,
        n_resamples=999,
        confidence_level=0.9,
        method="percentile",
        rng=generator(3),
    ).confidence_interval
    found = bootstrap_mean(scores, resamples=999, level=0.9, rng=generator(3))
    assert found.value == pytest.approx(scores.mean(), abs=1e-15)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.low < found.value < found.high


def test_interval_of_a_paired_statistic_is_scipys(scores: NDArray[np.float64]) -> None:
    other = scores + generator(6).normal(size=scores.size)

    def correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return float(np.corrcoef(x, y)[0, 1])

    expected = stats.bootstrap(
        (scores, other),
        correlation,
        n_resamples=500,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=generator(8),
    ).confidence_interval
    found = bootstrap_statistic((scores, other), correlation, resamples=500, rng=generator(8))
    assert found.value == pytest.approx(stats.pearsonr(scores, other).statistic)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_blocks_do_not_change_the_draws(
    scores: NDArray[np.float64], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(40) // 3
    whole = resampled_means([scores], resamples=101, rng=generator())
    whole_clustered = resampled_means([scores], resamples=101, rng=generator(), clusters=labels)
    monkeypatch.setattr(statistics, "BLOCK_ENTRIES", 7 * 40)
    assert np.array_equal(whole, resampled_means([scores], resamples=101, rng=generator()))
    assert np.array_equal(
        whole_clustered,
        resampled_means([scores], resamples=101, rng=generator(), clusters=labels),
    )


def test_interval_covers_a_bernoulli_mean_about_as_often_as_it_says() -> None:
    rng = generator(11)
    trials, covered = 400, 0
    for _ in range(trials):
        found = bootstrap_mean(rng.random(100) < 0.3, resamples=400, level=0.9, rng=rng)
        covered += found.low <= 0.3 <= found.high
    # Three standard errors of a share of 0.9 in 400 trials are 0.045.
    assert 0.855 <= covered / trials <= 0.945


def test_items_that_share_a_picture_are_covered_only_when_clustered() -> None:
    rng = generator(12)
    trials, clustered, unclustered = 200, 0, 0
    labels = np.repeat([f"picture-{index}" for index in range(60)], 6)
    for _ in range(trials):
        values = np.repeat(rng.random(60) < 0.4, 6)
        with_clusters = bootstrap_mean(values, resamples=300, level=0.9, rng=rng, clusters=labels)
        without = bootstrap_mean(values, resamples=300, level=0.9, rng=rng)
        clustered += with_clusters.low <= 0.4 <= with_clusters.high
        unclustered += without.low <= 0.4 <= without.high
    assert clustered / trials >= 0.83
    assert unclustered / trials <= 0.65


def test_clusters_of_one_item_are_items(scores: NDArray[np.float64]) -> None:
    plain = bootstrap_mean(scores, rng=generator())
    clustered = bootstrap_mean(scores, rng=generator(), clusters=np.arange(scores.size))
    assert plain == clustered


def test_clustered_mean_is_a_mean_over_items(scores: NDArray[np.float64]) -> None:
    labels = np.array([0] * 20 + list(range(1, 21)))
    fast = bootstrap_mean(scores, resamples=300, rng=generator(), clusters=labels)
    slow = bootstrap_statistic(
        (scores,),
        lambda x: float(x.mean()),
        resamples=300,
        rng=generator(),
        clusters=labels,
    )
    assert fast.value == pytest.approx(scores.mean())
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-12)


def test_one_item_and_one_cluster_have_no_width() -> None:
    assert bootstrap_mean([0.3], rng=generator()) == Interval(0.3, 0.3, 0.3)
    found = bootstrap_mean([0.1, 0.2, 0.6], rng=generator(), clusters=["a", "a", "a"])
    assert found.low == found.value == found.high == pytest.approx(0.3)


def test_identical_subjects_differ_by_exactly_zero(scores: NDArray[np.float64]) -> None:
    assert paired_difference(scores, scores.copy(), rng=generator()) == Interval(0.0, 0.0, 0.0)


def test_pairing_removes_what_the_subjects_share(scores: NDArray[np.float64]) -> None:
    found = paired_difference(scores + 0.25, scores, rng=generator())
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_difference_agrees_with_scipy_on_paired_samples(scores: NDArray[np.float64]) -> None:
    other = generator(9).gamma(2.0, size=40)
    expected = stats.bootstrap(
        (scores, other),
        lambda x, y: np.mean(x) - np.mean(y),
        paired=True,
        vectorized=False,
        n_resamples=500,
        method="percentile",
        rng=generator(2),
    ).confidence_interval
    found = paired_difference(scores, other, resamples=500, rng=generator(2))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_recovery_of_the_two_references_is_exactly_nought_and_one(
    scores: NDArray[np.float64],
) -> None:
    base, tuned = scores, scores + generator(4).normal(0.8, 0.3, size=scores.size)
    labels = np.arange(scores.size) // 4
    for clusters in (None, labels):
        nought = recovery(base, base, tuned, rng=generator(), clusters=clusters)
        one = recovery(tuned, base, tuned, rng=generator(), clusters=clusters)
        assert (nought.value, nought.low, nought.high) == (0.0, 0.0, 0.0)
        assert (one.value, one.low, one.high) == (1.0, 1.0, 1.0)
        assert nought.undefined_share == one.undefined_share == 0.0


def test_recovery_of_half_the_gain_is_a_half(scores: NDArray[np.float64]) -> None:
    tuned = scores + 1.0 + generator(4).random(scores.size)
    found = recovery((scores + tuned) / 2, scores, tuned, rng=generator())
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_recovery_is_a_ratio_of_paired_means() -> None:
    rng = generator(21)
    base, hybrid, tuned = ((rng.random(80) < share).astype(float) for share in (0.2, 0.5, 0.8))

    def ratio(h: NDArray[np.float64], b: NDArray[np.float64], t: NDArray[np.float64]) -> float:
        return float((h.mean() - b.mean()) / (t.mean() - b.mean()))

    expected = stats.bootstrap(
        (hybrid, base, tuned),
        ratio,
        paired=True,
        vectorized=False,
        n_resamples=500,
        method="percentile",
        rng=generator(1),
    ).confidence_interval
    found = recovery(hybrid, base, tuned, resamples=500, rng=generator(1))
    assert found.value == pytest.approx(ratio(hybrid, base, tuned))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_recovery_without_a_gain_is_undefined() -> None:
    base, tuned = np.array([1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0])
    lost = recovery(tuned, base, tuned, rng=generator())
    assert np.isnan([lost.value, lost.low, lost.high]).all()
    equal = recovery(tuned, base, base, rng=generator())
    assert np.isnan(equal.value)
    assert equal.undefined_share == 1.0


def test_a_gain_of_rounding_size_is_no_gain() -> None:
    # Some resamples have a gain of a half or more; the observed items have none but rounding.
    base, tuned = np.array([1.0, 0.0]), np.array([0.0, 1.0 + 1e-13])
    assert tuned.mean() > base.mean()
    found = recovery(tuned, base, tuned, rng=generator())
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.undefined_share == pytest.approx(0.75, abs=0.04)


def test_undefined_resamples_are_counted_as_the_binomial_says() -> None:
    # One gain of 1 among ten items: a resample has none with probability 0.9 ** 10.
    base, tuned = np.zeros(10), np.eye(10)[0]
    found = recovery(tuned, base, tuned, resamples=4000, rng=generator())
    assert found.undefined_share == pytest.approx(0.9**10, abs=0.03)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("bad", [[], [0.0, np.nan], [0.0, np.inf], [[0.0, 1.0]]])
def test_values_that_have_no_mean_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="values"):
        bootstrap_mean(bad, rng=generator())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths"):
        paired_difference([1.0], [1.0, 2.0], rng=generator())
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0, 2.0], level=95, rng=generator())
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_mean([1.0, 2.0], resamples=0, rng=generator())
    with pytest.raises(ValueError, match="clusters"):
        bootstrap_mean([1.0, 2.0], clusters=["a"], rng=generator())
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_statistic((np.arange(3.0),), lambda x: float("nan"), rng=generator())
