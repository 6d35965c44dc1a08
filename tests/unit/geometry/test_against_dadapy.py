"""What neighbour graphs say, against dadapy on the same vectors: to 1e-6 or exactly."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dadapy import Data
from sklearn.datasets import make_blobs, make_swiss_roll

from layersight.geometry.graph import neighbour_graph
from layersight.geometry.graph_pairs import paired_neighbour_tables
from layersight.geometry.imbalance import information_imbalance
from layersight.geometry.intrinsic_dimension import gride, two_nn
from layersight.geometry.knn_density import knn_log_density
from layersight.geometry.overlap import class_weights, label_overlap, neighbourhood_overlap
from layersight.geometry.overlap_curves import label_overlap_of_class_fraction, overlap_curve

MINI = Path(__file__).parents[2] / "data" / "mini_activations.parquet"
N = 500


@cache
def mini():
    frame = pd.read_parquet(MINI)
    x, y = (np.stack(frame[layer]).astype(np.float32) for layer in ("layer_15", "layer_24"))
    return x, y, pd.factorize(frame["kind"])[0]


def clouds(name):
    """Vectors, the same items seen elsewhere, and labels."""
    if name == "mini":
        return mini()
    rng = np.random.default_rng(0)
    labels = np.arange(N) % 4
    if name == "gaussian":
        basis, _ = np.linalg.qr(rng.standard_normal((256, 8)))
        x = rng.standard_normal((N, 8)) @ basis.T
    elif name == "swiss_roll":
        x, along = make_swiss_roll(N, noise=0.05, random_state=1)
        labels = np.digitize(along, [6, 8, 12])
    elif name == "clustered":
        x, labels = make_blobs(
            [200, 150, 80, 50, 20], n_features=20, cluster_std=4.0, random_state=2
        )
    else:
        x = rng.standard_normal((N, 6))
        x[100:130], x[400] = x[:30], x[3]
    seen = x + 0.3 * x.std(axis=0) * rng.standard_normal(x.shape)
    if name == "with_duplicates":
        seen[200:220] = seen[50:70]
    return x.astype(np.float32), seen.astype(np.float32), labels


NAMES = ["gaussian", "swiss_roll", "clustered", "mini", "with_duplicates"]
CLOUDS = pytest.mark.parametrize("name", NAMES)


def graph_of(x, k=100):
    return neighbour_graph(np.array([f"{i:04d}" for i in range(len(x))]), x, k)


def dadapy_of(x, k=100):
    """The library's own object, without copies (its own way to drop them changes the order)."""
    rows = np.sort(np.unique(x, axis=0, return_index=True)[1])
    data = Data(coordinates=x[rows].astype(np.float64), maxk=k, n_jobs=1)
    data.compute_distances(maxk=k)
    return data


@CLOUDS
def test_the_neighbours_are_the_same(name):
    graph, data = graph_of(clouds(name)[0]), dadapy_of(clouds(name)[0])
    assert data.N == len(graph.rows) == len(graph.item_ids) - graph.copies
    assert (graph.copies > 0) == (name == "with_duplicates")
    np.testing.assert_allclose(graph.distances, data.distances[:, 1:101], rtol=1e-6)
    np.testing.assert_array_equal(graph.indices, data.dist_indices[:, 1:101])


@CLOUDS
@pytest.mark.parametrize("algorithm", ["base", "ml"])
@pytest.mark.parametrize("fraction", [0.9, 0.98])
def test_two_nn(name, algorithm, fraction):
    expected = dadapy_of(clouds(name)[0]).compute_id_2NN(algorithm, mu_fraction=fraction)
    found = two_nn(graph_of(clouds(name)[0]).lengths, fraction, algorithm)
    assert found.dimension == pytest.approx(expected[0], rel=1e-6)


@CLOUDS
def test_gride_at_all_scales(name):
    expected, _, _ = dadapy_of(clouds(name)[0]).return_id_scaling_gride(range_max=100)
    found = gride(graph_of(clouds(name)[0]).lengths, 100)
    assert [estimate.n2 for estimate in found] == [2, 4, 8, 16, 32, 64]
    np.testing.assert_allclose([estimate.dimension for estimate in found], expected, rtol=1e-6)


@CLOUDS
@pytest.mark.parametrize("k", [5, 16])
def test_knn_density(name, k):
    data = dadapy_of(clouds(name)[0])
    data.set_id(4.5)
    expected, errors = data.compute_density_kNN(k)
    found, error = knn_log_density(graph_of(clouds(name)[0]).lengths, 4.5, k)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(errors, error, rtol=1e-12)


@CLOUDS
def test_overlap_of_two_spaces_for_a_range_of_k(name):
    x, y, _ = clouds(name)
    ids, in_x, in_y = paired_neighbour_tables(graph_of(x, 90), graph_of(y, 90))
    rows = ids.astype(int)
    data = dadapy_of(x[rows])
    assert len(rows) == data.N
    ks = [1, 10, 30]
    curve = overlap_curve(in_x, in_y, ks)
    for column, k in enumerate(ks):
        expected = data.return_data_overlap(coordinates=y[rows].astype(np.float64), k=k, avg=False)
        np.testing.assert_array_equal(neighbourhood_overlap(in_x, in_y, k), expected)
        np.testing.assert_array_equal(curve[:, column], expected)
    assert 0 < curve.mean() < 1


@CLOUDS
@pytest.mark.parametrize("how", [{"k": 30}, {"class_fraction": 0.3}])
def test_label_overlap(name, how):
    x, _, labels = clouds(name)
    graph, data = graph_of(x), dadapy_of(x)
    labels = labels[graph.rows]
    if "k" in how:
        found = label_overlap(graph.indices, labels, 30)
    else:
        found, _ = label_overlap_of_class_fraction(graph.indices, labels, 0.3)
    per_item = data.return_label_overlap(labels, **how, avg=False)
    np.testing.assert_array_equal(found, per_item)
    for weighted, weights in ((True, class_weights(labels)), (False, np.ones(len(labels)))):
        expected = data.return_label_overlap(labels, **how, weighted=weighted)
        assert (found * weights).mean() == pytest.approx(expected, rel=1e-12)


@CLOUDS
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.filterwarnings("ignore:Subset size greater")
def test_information_imbalance(name, k):
    x, y, _ = clouds(name)
    ids, in_x, in_y = paired_neighbour_tables(graph_of(x, len(x)), graph_of(y, len(y)))
    rows = ids.astype(int)
    data = Data(coordinates=x[rows].astype(np.float64), n_jobs=1)
    expected = data.return_information_imbalace(y[rows].astype(np.float64), k=k)
    for (a, b), (value, _) in zip(((in_x, in_y), (in_y, in_x)), expected, strict=True):
        found, beyond = information_imbalance(a, b, k)
        assert beyond == 0
        assert found.mean() == pytest.approx(value, rel=1e-12)
