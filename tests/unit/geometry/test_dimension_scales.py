import dadapy
import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_swiss_roll

from layersight.geometry.dimension_scales import decimation_curve, gride_interval, plateau
from layersight.geometry.intrinsic_dimension import gride, two_nn
from layersight.geometry.neighbours import nearest_neighbours
from layersight.statistics import bootstrap_statistic


def gaussian(n=800, d=8):
    return np.random.default_rng(0).standard_normal((n, d))


def swiss_roll():
    return make_swiss_roll(800, noise=0.05, random_state=1)[0]


def clusters():
    return make_blobs(800, n_features=20, centers=6, cluster_std=1.5, random_state=2)[0]


@pytest.mark.parametrize("scale", [0, 1, 4])
def test_the_one_step_bootstrap_is_that_of_estimating_each_resample_anew(scale):
    distances = nearest_neighbours(gaussian(), 64).distances
    estimate = gride(distances)[scale]
    found = gride_interval(distances, estimate, resamples=200, rng=np.random.default_rng(3))
    anew = bootstrap_statistic(
        (distances,),
        lambda drawn: gride(drawn, estimate.n2)[-1].dimension,
        resamples=200,
        rng=np.random.default_rng(3),
    )
    width = anew.high - anew.low
    assert found.value == estimate.dimension
    assert found.low == pytest.approx(anew.low, abs=0.05 * width)
    assert found.high == pytest.approx(anew.high, abs=0.05 * width)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # mu^-d follows Beta(n1, n2 - n1): ratios drawn from GRIDE's law, independently.
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(300):
        distances = np.ones((200, 4))
        distances[:, 3] = rng.beta(2, 2, 200) ** (-1 / 5.0)
        distances[:, 2] = np.minimum(1 + 1e-6, distances[:, 3])
        estimate = gride(distances)[-1]
        found = gride_interval(distances, estimate, resamples=200, level=0.8, rng=rng)
        hits += found.low <= 5.0 <= found.high
    assert hits / 300 == pytest.approx(0.8, abs=0.07)


def test_an_infinite_dimension_has_no_interval():
    distances = np.ones((30, 4))
    found = gride_interval(distances, gride(distances)[1], rng=np.random.default_rng(0))
    assert found.value == np.inf
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize("algorithm", ["base", "ml"])
@pytest.mark.parametrize("cloud", [gaussian, swiss_roll, clusters])
def test_every_subset_has_the_dimension_that_dadapy_finds_in_it(cloud, algorithm):
    x = cloud()
    graph = nearest_neighbours(x, 128)
    curve = decimation_curve(
        graph.indices, graph.distances, rng=np.random.default_rng(5), algorithm=algorithm,
        fewest=90, least_used=1,
    )  # fmt: skip
    assert [point.parts for point in curve] == [1, 2, 4, 8]
    label = np.random.default_rng(5)
    for point in curve:
        part = label.permutation(len(x)) % point.parts
        expected = [
            dadapy.Data(coordinates=x[part == p], maxk=5).compute_id_2NN(algorithm=algorithm)[0]
            for p in range(point.parts)
        ]
        assert point.used == 1
        assert point.dimension == pytest.approx(np.mean(expected), rel=1e-6)
        if point.parts > 1:
            assert point.spread == pytest.approx(np.std(expected, ddof=1), rel=1e-4)


def test_all_points_are_the_first_step_and_the_scale_grows():
    graph = nearest_neighbours(swiss_roll(), 128)
    curve = decimation_curve(graph.indices, graph.distances, rng=np.random.default_rng(0))
    whole = two_nn(graph.distances)
    assert curve[0].dimension == whole.dimension
    assert (curve[0].low, curve[0].high) == whole.asymptotic_normal_interval()
    scales = [point.scale for point in curve if np.isfinite(point.dimension)]
    assert scales == sorted(scales)
    assert curve[-1].points >= 20


def test_a_noisy_sheet_looks_flatter_with_fewer_points():
    rng = np.random.default_rng(6)
    sheet = np.concatenate(
        [rng.uniform(0, 1, (2000, 2)), 0.01 * rng.standard_normal((2000, 8))], axis=1
    )
    graph = nearest_neighbours(sheet, 128)
    curve = decimation_curve(graph.indices, graph.distances, rng=rng, least_used=0.9)
    dimensions = [point.dimension for point in curve]
    assert dimensions[0] > dimensions[4] + 1


def test_a_step_with_too_few_known_neighbours_is_undefined_and_ends_the_curve():
    graph = nearest_neighbours(gaussian(), 16)
    curve = decimation_curve(graph.indices, graph.distances, rng=np.random.default_rng(0))
    assert [np.isnan(point.dimension) for point in curve] == [False, False, True]
    assert curve[-1].parts == 4
    expected_lost = (3 / 4) ** 16 * (1 + 16 / 3)
    assert 1 - curve[-1].used == pytest.approx(expected_lost, abs=0.03)


def test_the_interval_of_a_decimated_dimension_covers_the_truth():
    # Uniform in a periodic box, so that no edge biases the estimate.
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(40):
        x = rng.uniform(size=(300, 2))
        gaps = np.abs(x[:, np.newaxis] - x)
        to_all = np.linalg.norm(np.minimum(gaps, 1 - gaps), axis=-1)
        indices = np.argsort(to_all, axis=1)[:, 1:61]
        distances = np.take_along_axis(to_all, indices, axis=1)
        point = decimation_curve(indices, distances, rng=rng, algorithm="ml", level=0.8)[2]
        hits += point.low <= 2.0 <= point.high
    assert hits / 40 == pytest.approx(0.8, abs=0.2)


def test_the_plateau_is_the_middle_of_the_flattest_stretch():
    found = plateau([20.0, 12.0, 8.0, 7.9, 8.1, 5.0])
    assert (found.index, found.dimension) == (3, 7.9)
    assert found.spread == pytest.approx(8.1 / 7.9 - 1)
    assert plateau([20.0, 12.0, 8.0, 7.9, 8.1, 5.0], width=2).index == 2


def test_of_equally_flat_stretches_the_smallest_scales_are_chosen():
    assert plateau([4.0, 4.0, 4.0, 4.0]).index == 1


def test_undefined_scales_are_no_plateau():
    assert plateau([np.inf, 5.0, np.nan, 5.0, 5.0]) is None
    assert plateau([np.inf, 5.0, 6.0, 7.0]).index == 2
    assert plateau([5.0, 5.0]) is None
    with pytest.raises(ValueError, match="width is 1"):
        plateau([5.0, 5.0], width=1)


def planted(seed, edge):
    """2,000 points of a curved 5-dimensional manifold in 576 dimensions, with an edge or closed."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((576, 10)))
    if edge:
        flat = rng.uniform(-1, 1, (2000, 5))
        curved = np.concatenate([flat, 0.3 * np.sin(2 * flat)], axis=1)
    else:
        angles = rng.uniform(0, 2 * np.pi, (2000, 5))
        curved = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return (curved @ basis.T).astype(np.float32)


@pytest.mark.parametrize("edge", [True, False])
@pytest.mark.parametrize("seed", [8, 9])
def test_a_planted_5_dimensional_manifold_in_576_dimensions_is_found(seed, edge):
    distances = nearest_neighbours(planted(seed, edge), 64).distances
    for algorithm in ("base", "ml"):
        assert two_nn(distances, algorithm=algorithm).dimension == pytest.approx(5, abs=0.5)
    dimensions = [estimate.dimension for estimate in gride(distances)]
    assert dimensions[:2] == pytest.approx([5, 5], abs=0.5)
    if edge:
        # Half of a ball at an edge is empty, and at larger scales more points lie near one: the
        # dimension falls with the scale, in dadapy too (test_against_dadapy).
        assert dimensions == pytest.approx(sorted(dimensions, reverse=True), abs=0.05)
    else:
        assert plateau(dimensions).dimension == pytest.approx(5, abs=0.5)


def test_indices_of_another_shape_are_refused():
    graph = nearest_neighbours(gaussian(), 16)
    with pytest.raises(ValueError, match="must be alike"):
        decimation_curve(graph.indices[:, :4], graph.distances, rng=np.random.default_rng(0))
