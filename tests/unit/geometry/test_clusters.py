import numpy as np
import pytest
from scipy.special import comb
from scipy.stats import entropy
from scipy.stats.contingency import crosstab
from sklearn.metrics import adjusted_rand_score, homogeneity_completeness_v_measure
from tests.unit.geometry.five_clouds import CLOUDS, clustered, distinct, swiss_roll

from layersight.geometry.clusters import (
    agreement,
    agreement_measures,
    merge_table,
    peak_table,
    saddle_dendrogram,
)
from layersight.geometry.density import DensityPeaks, density_peaks, resampled_peaks
from layersight.geometry.neighbours import nearest_neighbours

pytest.importorskip("dadapy")


def table_of(x, k=60):
    found = nearest_neighbours(x, k)
    return found.indices, found.distances


def by_definition(clusters, labels):
    counts = crosstab(clusters, labels).count.astype(float)
    n, by_cluster, by_label = counts.sum(), counts.sum(axis=1), counts.sum(axis=0)
    label_given_cluster = np.sum(by_cluster / n * entropy(counts, axis=1))
    cluster_given_label = np.sum(by_label / n * entropy(counts, axis=0))
    pairs = comb(counts, 2).sum()
    expected = comb(by_cluster, 2).sum() * comb(by_label, 2).sum() / comb(n, 2)
    most = (comb(by_cluster, 2).sum() + comb(by_label, 2).sum()) / 2
    return {
        "ari": (pairs - expected) / (most - expected),
        "homogeneity": 1 - label_given_cluster / entropy(by_label),
        "completeness": 1 - cluster_given_label / entropy(by_cluster),
    }


@CLOUDS
def test_agreement_is_its_definition(cloud):
    x = distinct(cloud())
    clusters = density_peaks(*table_of(x), k=6, z=0.2).labels
    assert clusters.max() > 0
    labels = np.array(["low", "middle", "high"])[
        np.digitize(x[:, 0], np.quantile(x[:, 0], [0.3, 0.6]))
    ]
    found = agreement(clusters, labels)
    for name, expected in by_definition(clusters, labels).items():
        assert found[name] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert found["ari"] == pytest.approx(adjusted_rand_score(labels, clusters), rel=1e-12)
    homogeneity, completeness, _ = homogeneity_completeness_v_measure(labels, clusters)
    assert found["homogeneity"] == pytest.approx(homogeneity, rel=1e-9)
    assert found["completeness"] == pytest.approx(completeness, rel=1e-9)


def test_agreement_of_known_partitions():
    labels = np.array(["a", "a", "b", "b"])
    assert agreement(np.array([1, 1, 0, 0]), labels) == {
        "ari": 1, "homogeneity": 1, "completeness": 1
    }  # fmt: skip
    found = agreement(np.arange(4), labels)
    assert found == pytest.approx({"ari": 0, "homogeneity": 1, "completeness": 0.5})
    one = agreement(np.zeros(4, dtype=int), labels)
    assert (one["ari"], one["homogeneity"], one["completeness"]) == (0, 0, 1)


def test_labels_that_are_the_clusters_agree_above_chance_and_with_an_interval():
    x = clustered()
    resampled = resampled_peaks(*table_of(x), resamples=20, rng=np.random.default_rng(0), k=8, z=1)
    labels = resampled.whole.labels.copy()
    labels[::7] = 0
    found = {
        one.metric: one
        for one in agreement_measures(resampled, labels, level=0.9, rng=np.random.default_rng(1))
    }
    assert list(found) == [
        "ari", "homogeneity", "completeness",
        "ari_permuted", "homogeneity_permuted", "completeness_permuted",
    ]  # fmt: skip
    for name in ("ari", "homogeneity", "completeness"):
        value, control = found[name], found[f"{name}_permuted"]
        assert value.low < value.value < value.high <= 1
        assert value.low > control.high
        assert value.n == len(x)
    assert found["ari_permuted"].low < 0 < found["ari_permuted"].high
    assert found["ari_permuted"].value == pytest.approx(0, abs=0.02)


def test_many_clusters_are_homogeneous_by_chance_and_the_control_shows_it():
    resampled = resampled_peaks(
        *table_of(swiss_roll()), resamples=10, rng=np.random.default_rng(2), k=3, z=0
    )
    labels = np.random.default_rng(3).integers(0, 3, len(swiss_roll()))
    found = {
        one.metric: one
        for one in agreement_measures(resampled, labels, level=0.9, rng=np.random.default_rng(4))
    }
    assert found["homogeneity"].value > 0.05
    assert found["homogeneity_permuted"].value == pytest.approx(
        found["homogeneity"].value, abs=0.05
    )


def with_saddles(saddles, log_density, peaks=None):
    p = len(saddles)
    return DensityPeaks(
        labels=np.arange(len(log_density), dtype=np.int32) % p,
        core=np.ones(len(log_density), dtype=bool),
        peaks=np.arange(p) if peaks is None else peaks,
        log_density=np.asarray(log_density, dtype=float),
        log_density_error=0.25,
        saddles=np.asarray(saddles, dtype=float),
        floor=-9.0,
        dimension=2.0,
        k=16,
        z=1.65,
    )


NAN = float("nan")


def test_a_dendrogram_of_three_peaks_has_the_heights_of_wpgma():
    # Depths below the summit at 10: 1 (peaks 0 and 1), 4 (0 and 2), 6 (1 and 2); (4 + 6) / 2 = 5.
    peaks = with_saddles([[NAN, 9, 6], [9, NAN, 4], [6, 4, NAN]], [10, 9.5, 8, 3])
    np.testing.assert_allclose(saddle_dendrogram(peaks), [[0, 1, 1, 2], [2, 3, 5, 3]])


def test_clusters_that_do_not_touch_meet_at_the_floor():
    peaks = with_saddles([[NAN, NAN], [NAN, NAN]], [10, 9])
    np.testing.assert_allclose(saddle_dendrogram(peaks), [[0, 1, 19, 2]])


def test_dendrograms_agree_with_wpgma_by_hand():
    rng = np.random.default_rng(5)
    p = 9
    saddles = rng.uniform(0, 5, (p, p))
    saddles = (saddles + saddles.T) / 2
    np.fill_diagonal(saddles, np.nan)
    found = saddle_dendrogram(with_saddles(saddles, np.linspace(5, 8, p)))
    depth = 8 - saddles
    alive = list(range(p))
    distance = {(a, b): depth[a, b] for a in alive for b in alive if a < b}
    for step, (left, right, height, _) in enumerate(found):
        pair = min((distance[a, b], a, b) for a in alive for b in alive if a < b)
        assert (left, right) == pair[1:]
        assert height == pytest.approx(pair[0], rel=1e-12)
        alive = [one for one in alive if one not in pair[1:]]
        for one in alive:
            distance[one, p + step] = np.mean(
                [distance[min(one, part), max(one, part)] for part in pair[1:]]
            )
        alive.append(p + step)


def test_one_peak_has_an_empty_dendrogram():
    peaks = with_saddles([[NAN]], [1, 2])
    assert saddle_dendrogram(peaks).shape == (0, 4)
    assert len(merge_table(peaks)) == 0


@CLOUDS
def test_dendrograms_of_clouds_are_monotone_and_hold_all_peaks(cloud):
    peaks = density_peaks(*table_of(distinct(cloud())), k=6, z=0.2)
    table = merge_table(peaks)
    assert len(table) == len(peaks.peaks) - 1 > 0
    assert (np.diff(table["height"]) >= -1e-12).all()
    assert table["height"].min() >= 0
    assert table["peaks"].iloc[-1] == len(peaks.peaks)
    assert table["merge"].tolist() == list(range(len(table)))


def test_peaks_are_described_by_what_they_hold():
    x = clustered()
    peaks = density_peaks(*table_of(x), k=8, z=1.0)
    labels = np.where(peaks.labels == 1, "cat", "dog")
    table = peak_table(peaks, labels)
    assert table["items"].sum() == len(x)
    assert table["core_items"].sum() == peaks.core.sum()
    assert table["label"].tolist() == ["cat" if i == 1 else "dog" for i in range(len(table))]
    assert (table["label_share"] == 1).all()
    np.testing.assert_array_equal(table["log_density"], peaks.log_density[peaks.peaks])
    mixed = peak_table(peaks, np.arange(len(x)) % 2)
    assert mixed["label_share"].between(0.5, 1).all()
    assert (mixed["label_share"] < 1).all()


def test_labels_must_match_the_items():
    peaks = with_saddles([[NAN]], [1, 2])
    with pytest.raises(ValueError, match="3 labels do not match 2"):
        peak_table(peaks, np.arange(3))
    with pytest.raises(ValueError, match="3 labels do not match 2"):
        agreement(peaks.labels, np.arange(3))
