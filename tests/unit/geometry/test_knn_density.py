import math

import dadapy
import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_swiss_roll

from layersight.geometry.knn_density import knn_log_density
from layersight.geometry.neighbours import nearest_neighbours


def gaussian():
    return np.random.default_rng(0).standard_normal((400, 5))


def swiss_roll():
    return make_swiss_roll(400, noise=0.05, random_state=1)[0]


def clusters():
    return make_blobs(400, n_features=20, centers=4, random_state=2)[0]


@pytest.mark.parametrize("k", [1, 16, 30])
@pytest.mark.parametrize("cloud", [gaussian, swiss_roll, clusters])
def test_density_and_error_are_those_of_dadapy(cloud, k):
    x = cloud()
    data = dadapy.Data(coordinates=x, maxk=40)
    data.compute_distances(maxk=40)
    data.set_id(3.7)
    expected, expected_error = data.compute_density_kNN(k=k)
    found, error = knn_log_density(nearest_neighbours(x, 40).distances, 3.7, k)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(error, expected_error, rtol=1e-12)


def test_a_uniform_square_has_density_one():
    x = np.random.default_rng(3).uniform(size=(4000, 2))
    inside = (np.abs(x - 0.5) < 0.4).all(axis=1)
    log_density, error = knn_log_density(nearest_neighbours(x, 50).distances, 2, 50)
    assert log_density[inside].mean() == pytest.approx(0, abs=0.05)
    assert log_density[inside].std() == pytest.approx(error, rel=0.25)


def test_impossible_requests_are_refused_with_a_reason():
    distances = nearest_neighbours(gaussian(), 4).distances
    with pytest.raises(ValueError, match="k is 5; the graph holds 4"):
        knn_log_density(distances, 2, 5)
    for dimension in (0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive and finite"):
            knn_log_density(distances, dimension, 3)
