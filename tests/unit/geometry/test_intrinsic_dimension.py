import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_swiss_roll

from layersight.geometry.intrinsic_dimension import gride, gride_last, two_nn
from layersight.geometry.neighbours import nearest_neighbours

dadapy = pytest.importorskip("dadapy")


def gaussian_8_in_256():
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((256, 8)))
    return rng.standard_normal((800, 8)) @ basis.T


def swiss_roll():
    return make_swiss_roll(800, noise=0.05, random_state=1)[0]


def clusters():
    return make_blobs(800, n_features=20, centers=6, cluster_std=1.5, random_state=2)[0]


CLOUDS = pytest.mark.parametrize("cloud", [gaussian_8_in_256, swiss_roll, clusters])


def distances_of(x, k=64):
    return nearest_neighbours(x, k).distances


@CLOUDS
@pytest.mark.parametrize("algorithm", ["base", "ml"])
@pytest.mark.parametrize("fraction", [0.9, 0.7])
def test_two_nn_agrees_with_dadapy(cloud, algorithm, fraction):
    x = cloud()
    expected, _, _ = dadapy.Data(coordinates=x, maxk=70).compute_id_2NN(
        algorithm=algorithm, mu_fraction=fraction
    )
    found = two_nn(distances_of(x), fraction, algorithm)
    assert found.dimension == pytest.approx(expected, rel=1e-6)
    assert (found.n1, found.n2, found.n) == (1, 2, len(x))


@CLOUDS
def test_gride_agrees_with_dadapy_at_all_scales(cloud):
    x = cloud()
    data = dadapy.Data(coordinates=x, maxk=100)
    data.compute_distances(maxk=100)
    dimensions, errors, _ = data.return_id_scaling_gride(range_max=64)
    found = gride(distances_of(x))
    assert [estimate.n2 for estimate in found] == [2, 4, 8, 16, 32, 64]
    assert [estimate.n1 for estimate in found] == [1, 2, 4, 8, 16, 32]
    np.testing.assert_allclose([e.dimension for e in found], dimensions, rtol=1e-6)
    # dadapy's information counts outlying ratios that its maximum leaves out.
    np.testing.assert_allclose([e.error for e in found], errors, rtol=2e-3)


def test_a_5_dimensional_manifold_in_64_dimensions_is_found():
    rng = np.random.default_rng(3)
    latent = rng.uniform(-1, 1, (1000, 5))
    basis, _ = np.linalg.qr(rng.standard_normal((64, 10)))
    curved = np.concatenate([latent, 0.3 * np.sin(2 * latent)], axis=1) @ basis.T
    distances = distances_of(curved)
    assert two_nn(distances).dimension == pytest.approx(5, abs=0.5)
    assert two_nn(distances, algorithm="ml").dimension == pytest.approx(5, abs=0.5)
    # Further out, more neighbourhoods reach over the edge of the manifold.
    assert gride(distances)[0].dimension == pytest.approx(5, abs=0.5)


def test_gride_finds_5_dimensions_at_every_scale_where_there_is_no_edge():
    # Uniform in a periodic unit box: the law of the ratios holds up to r = 1/2.
    x = np.random.default_rng(3).uniform(size=(1000, 5))
    gaps = np.abs(x[:, np.newaxis] - x)
    distances = np.linalg.norm(np.minimum(gaps, 1 - gaps), axis=-1)
    nearest = np.sort(distances, axis=1)[:, 1:65]
    assert nearest.max() < 0.5
    for estimate in gride(nearest):
        assert estimate.dimension == pytest.approx(5, abs=0.5)


@pytest.mark.parametrize("fraction", [0.5, 0.9])
@pytest.mark.parametrize("algorithm", ["base", "ml"])
def test_the_standard_error_is_the_spread_over_samples(algorithm, fraction):
    rng = np.random.default_rng(4)
    found = [
        two_nn(pareto_distances(rng, 300, dimension=6.0), fraction, algorithm) for _ in range(600)
    ]
    spread = np.std([estimate.dimension for estimate in found])
    assert np.mean([estimate.error for estimate in found]) == pytest.approx(spread, rel=0.1)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(400):
        low, high = two_nn(
            pareto_distances(rng, 300, 6.0), algorithm="ml"
        ).asymptotic_normal_interval(0.8)
        hits += low <= 6.0 <= high
    assert hits / 400 == pytest.approx(0.8, abs=0.06)


def pareto_distances(rng, n, dimension):
    """Distances whose ratios follow TwoNN's law exactly and independently."""
    first = rng.uniform(1, 2, n)
    return np.stack([first, first * (1 - rng.random(n)) ** (-1 / dimension)], axis=1)


@pytest.mark.parametrize("n1", [2, 8])
def test_gride_and_its_error_hold_for_ratios_drawn_from_its_law(n1):
    # mu^-d follows Beta(n1, n2 - n1): the volume inside r_n1 as a share of that inside r_n2.
    rng = np.random.default_rng(6)
    estimates = []
    for _ in range(300):
        distances = np.ones((300, 2 * n1))
        distances[:, n1:] = 1.5
        share = rng.beta(n1, n1, 300)
        distances[:, 2 * n1 - 1] = share ** (-1 / 4.0)
        distances[:, n1:-1] = np.minimum(distances[:, n1:-1], distances[:, -1:])
        estimates.append(gride(distances)[-1])
    dimensions = [estimate.dimension for estimate in estimates]
    assert np.mean(dimensions) == pytest.approx(4.0, rel=0.01)
    assert np.mean([e.error for e in estimates]) == pytest.approx(np.std(dimensions), rel=0.12)


def test_scale_is_the_mean_distance_to_the_outer_neighbour():
    distances = distances_of(clusters(), 8)
    assert two_nn(distances).scale == pytest.approx(distances[:, 1].mean())
    assert [e.scale for e in gride(distances)] == pytest.approx(
        [distances[:, n2 - 1].mean() for n2 in (2, 4, 8)]
    )


def test_range_max_bounds_the_scales_and_so_do_the_columns():
    distances = distances_of(clusters(), 20)
    assert [e.n2 for e in gride(distances)] == [2, 4, 8, 16]
    assert [e.n2 for e in gride(distances, 9)] == [2, 4, 8]


def test_the_dimension_does_not_depend_on_the_unit_of_length():
    distances = distances_of(clusters())
    for scaled in (1e-30, 1e30):
        for a, b in zip(gride(distances), gride(distances * scaled), strict=True):
            assert b.dimension == pytest.approx(a.dimension, rel=1e-9)


def test_a_fraction_of_one_is_maximum_likelihood():
    distances = distances_of(swiss_roll(), 2)
    assert two_nn(distances, 1.0) == two_nn(distances, algorithm="ml")


def test_equidistant_points_have_infinite_dimension_and_no_error():
    distances = np.ones((10, 4))
    for estimate in [two_nn(distances), two_nn(distances, algorithm="ml"), *gride(distances)]:
        assert estimate.dimension == np.inf
        assert np.isnan(estimate.error)


def test_single_ties_are_harmless():
    distances = distances_of(clusters(), 8).copy()
    distances[3] = distances[3, 0]
    assert all(np.isfinite(e.dimension) and np.isfinite(e.error) for e in gride(distances))


def test_a_tie_is_the_limit_of_nearly_equal_distances():
    distances = distances_of(clusters(), 8).copy()
    distances[:200, 1:4] = distances[:200, 1:2]
    nearly = distances.copy()
    nearly[:200, 3] *= 1 + 1e-10
    tied, limit = gride(distances)[1], gride(nearly)[1]
    assert tied.dimension == pytest.approx(limit.dimension, rel=1e-7)
    assert tied.error == pytest.approx(limit.error, rel=1e-7)


def with_zero():
    distances = distances_of(clusters(), 4).copy()
    distances[7, 0] = 0
    return distances


@pytest.mark.parametrize("estimator", [two_nn, gride])
@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (with_zero(), "1 of 800 points have a neighbour at distance 0 .the first is row 7"),
        (np.ones((5, 1)), "two neighbours"),
        (np.array([[1.0, np.nan], [1.0, 2.0]]), "NaN"),
        (np.array([[2.0, 1.0], [1.0, 2.0]]), "nearest neighbour first"),
    ],
)
def test_unusable_distances_are_refused_with_a_reason(estimator, distances, message):
    with pytest.raises(ValueError, match=message):
        estimator(distances)


def test_unknown_options_are_refused():
    distances = distances_of(clusters(), 4)
    with pytest.raises(ValueError, match="known are 'base' and 'ml'"):
        two_nn(distances, algorithm="mle")
    for fraction in (0.0, 1.5, 1e-6):
        with pytest.raises(ValueError, match="fraction is"):
            two_nn(distances, fraction)
    with pytest.raises(ValueError, match="range_max is 1"):
        gride(distances, 1)


@pytest.mark.parametrize(
    ("columns", "range_max"), [(40, 16), (40, 17), (40, None), (10, 64), (2, 2)]
)
def test_the_last_scale_of_gride_alone_is_the_last_of_all(columns, range_max):
    x = np.random.default_rng(1).standard_normal((200, 5))
    distances = nearest_neighbours(x, columns).distances
    assert gride_last(distances, range_max) == gride(distances, range_max)[-1]
    with pytest.raises(ValueError, match="range_max is 1"):
        gride_last(distances, 1)
