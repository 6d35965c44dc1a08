from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import make_blobs
from tests.unit.geometry.five_clouds import ALL, clustered, distinct, gaussian, swiss_roll

from layersight.geometry.density import (
    density_peaks,
    knn_log_density,
    peak_measures,
    resampled_peaks,
)
from layersight.geometry.neighbours import nearest_neighbours
from layersight.geometry.subsampling import random_subsets, restricted_neighbours

dadapy = pytest.importorskip("dadapy")

COLUMNS = 60
MINI = Path(__file__).parents[2] / "data" / "mini_activations_density.parquet"


def mini_activations():
    """Means over image and over text tokens of 80 concepts, layer 18 of the fully tuned `mini`."""
    vectors = pq.read_table(MINI).column("vector").combine_chunks()
    return vectors.flatten().to_numpy(zero_copy_only=False).reshape(160, 576).astype(np.float32)


CLOUDS = pytest.mark.parametrize("cloud", [*ALL, mini_activations])


def table_of(x, k=COLUMNS):
    found = nearest_neighbours(x, k)
    return found.indices, found.distances


def by_dadapy(x, k, z, halo=False):
    """Everything from the vectors, with dadapy's implementation in plain Python."""
    data = dadapy.Data(coordinates=x, maxk=COLUMNS)
    data.compute_distances(maxk=COLUMNS, n_jobs=1)
    dimensions, _, _ = data.return_id_scaling_gride(range_max=k)
    data.set_id(dimensions[-1])
    data.compute_density_kNN(k=k)
    data.compute_clustering_ADP_pure_python(Z=z, halo=halo)
    return data


@CLOUDS
@pytest.mark.parametrize("k", [4, 16])
def test_density_agrees_with_dadapy(cloud, k):
    x = distinct(cloud())
    data = dadapy.Data(coordinates=x, maxk=COLUMNS)
    data.compute_distances(maxk=COLUMNS, n_jobs=1)
    data.set_id(3.7)
    expected, error = data.compute_density_kNN(k=k)
    np.testing.assert_allclose(knn_log_density(table_of(x)[1], k, 3.7), expected, rtol=1e-9)
    np.testing.assert_allclose(error, 1 / np.sqrt(k))


@CLOUDS
@pytest.mark.parametrize(("k", "z"), [(16, 1.65), (8, 0.5)])
def test_peaks_agree_with_dadapy(cloud, k, z):
    x = distinct(cloud())
    found = density_peaks(*table_of(x), k=k, z=z)
    expected = by_dadapy(x, k, z)
    assert found.dimension == pytest.approx(expected.intrinsic_dim, rel=1e-6)
    np.testing.assert_array_equal(found.labels, expected.cluster_assignment)
    np.testing.assert_array_equal(found.peaks, expected.cluster_centers)
    np.testing.assert_allclose(found.log_density, expected.log_den, rtol=1e-6, atol=1e-6)
    touching = expected.bord_indices >= 0
    np.fill_diagonal(touching, False)
    np.testing.assert_array_equal(np.isfinite(found.saddles), touching)
    np.testing.assert_allclose(found.saddles[touching], expected.log_den_bord[touching], rtol=1e-6)
    halo = by_dadapy(x, k, z, halo=True).cluster_assignment
    np.testing.assert_array_equal(found.core, halo >= 0)
    assert found.core_fraction == np.mean(halo >= 0)


def test_the_cases_have_several_peaks_saddles_and_a_halo():
    """Without this the comparison above could be one of trivial clusterings."""
    assert len(density_peaks(*table_of(clustered()), k=8, z=0.5).peaks) >= 5
    found = density_peaks(*table_of(swiss_roll()), k=8, z=0.5)
    assert len(found.peaks) >= 5
    assert np.isfinite(found.saddles).any()
    assert found.core_fraction < 1


def far_blobs(n=150):
    return make_blobs(n, centers=100 * np.eye(3), cluster_std=1.0, random_state=1)


def test_far_clusters_are_found_and_do_not_touch():
    x, labels = far_blobs()
    found = density_peaks(*table_of(x, 30), k=16)
    assert len(found.peaks) == 3
    assert len(set(zip(found.labels.tolist(), labels.tolist(), strict=True))) == 3
    assert np.isnan(found.saddles).all()
    assert found.floor < found.log_density.min() - 1.65 / 4
    assert found.core_fraction == 1


def test_a_higher_significance_leaves_fewer_peaks():
    table = table_of(swiss_roll())
    counts = [len(density_peaks(*table, k=8, z=z).peaks) for z in (0.0, 0.5, 1.65)]
    assert counts[0] > counts[1] > counts[2] >= 1


def test_the_dimension_moves_the_density_and_is_taken_when_given():
    table = table_of(gaussian())
    found = density_peaks(*table, dimension=2.5)
    assert found.dimension == 2.5
    np.testing.assert_array_equal(found.log_density, knn_log_density(table[1], 16, 2.5))


def test_uniform_density_is_found():
    # n points evenly on a circle of length 1: every item has density 1, and 2 neighbours at j / n.
    n, k = 400, 20
    steps = np.repeat(np.arange(1, k // 2 + 1), 2) / n
    found = knn_log_density(np.tile(steps, (n, 1)), k, 1.0)
    np.testing.assert_allclose(found, 0.0, atol=1e-12)


def test_subsets_are_clustered_as_if_their_neighbours_had_been_sought():
    x = clustered()
    table = table_of(x)
    found = resampled_peaks(*table, resamples=3, rng=np.random.default_rng(0), k=8, z=1.0)
    draws = random_subsets(len(x), resamples=3, fraction=0.8, rng=np.random.default_rng(0))
    for part, members, rows in zip(found.parts, found.members, draws, strict=True):
        np.testing.assert_array_equal(members, rows)
        width = restricted_neighbours(*table, rows)[0].shape[1]
        fresh = density_peaks(*table_of(x[rows], width), k=8, z=1.0)
        np.testing.assert_array_equal(part.labels, fresh.labels)
        np.testing.assert_array_equal(part.core, fresh.core)
    assert found.subset_size == int(0.8 * len(x))


def test_clear_clusters_have_a_sure_count():
    x, _ = far_blobs()
    found = resampled_peaks(*table_of(x, 40), resamples=20, rng=np.random.default_rng(1))
    peaks, core = peak_measures(found, level=0.95)
    assert (peaks.metric, peaks.value, peaks.low, peaks.high, peaks.n) == ("peaks", 3, 3, 3, 150)
    assert (core.metric, core.value, core.low, core.high) == ("core_fraction", 1, 1, 1)


def test_doubtful_clusters_have_an_interval():
    found = resampled_peaks(
        *table_of(swiss_roll()), resamples=40, rng=np.random.default_rng(2), k=8, z=0.5
    )
    peaks, core = peak_measures(found, level=0.9)
    assert 1 <= peaks.low < peaks.high
    assert 0 <= core.low < core.value < core.high <= 1


def test_impossible_requests_are_refused_with_a_reason():
    indices, distances = table_of(gaussian(), 20)
    with pytest.raises(ValueError, match="k is 21, but the table holds 20"):
        density_peaks(indices, distances, k=21, dimension=3)
    with pytest.raises(ValueError, match="share one shape"):
        density_peaks(indices, distances[:, :5])
    with pytest.raises(ValueError, match="z is -1"):
        density_peaks(indices, distances, z=-1)
    with pytest.raises(ValueError, match="dimension is inf"):
        knn_log_density(distances, 4, np.inf)
    with pytest.raises(ValueError, match="give a wider table"):
        resampled_peaks(indices, distances, resamples=5, rng=np.random.default_rng(0), k=16)
    with pytest.raises(ValueError, match="resamples is 0"):
        resampled_peaks(indices, distances, resamples=0, rng=np.random.default_rng(0))
    copies = np.repeat(gaussian()[:10], 5, axis=0)
    with pytest.raises(ValueError, match="50 of 50 items have 3 copies"):
        density_peaks(*table_of(copies, 10), k=3, dimension=2)
    with pytest.raises(ValueError, match="remove duplicate"):
        density_peaks(*table_of(copies, 10), k=8)
