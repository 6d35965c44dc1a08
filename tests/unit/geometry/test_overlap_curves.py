import dadapy
import numpy as np
import pytest
from sklearn.datasets import make_blobs

from layersight.geometry.neighbours import nearest_neighbours
from layersight.geometry.overlap import label_overlap, neighbourhood_overlap
from layersight.geometry.overlap_curves import (
    expected_label_overlap,
    label_overlap_curve,
    label_overlap_of_class_fraction,
    overlap_curve,
)

KS = (1, 2, 7, 30)


def clusters():
    return make_blobs([40, 90, 170], n_features=12, cluster_std=6, random_state=2)


def spaces():
    x, labels = clusters()
    y = x + 3 * np.random.default_rng(0).standard_normal(x.shape)
    return nearest_neighbours(x, 30).indices, nearest_neighbours(y, 30).indices, x, y, labels


def test_every_k_of_the_curve_is_the_overlap_that_dadapy_finds():
    a, b, x, y, _ = spaces()
    curve = overlap_curve(a, b, KS)
    for column, k in enumerate(KS):
        expected = dadapy.Data(coordinates=x, maxk=40).return_data_overlap(
            coordinates=y, k=k, avg=False
        )
        np.testing.assert_allclose(curve[:, column], expected, rtol=1e-12)
        np.testing.assert_array_equal(curve[:, column], neighbourhood_overlap(a, b, k))
    assert 0.05 < curve.mean() < 0.95


def test_the_order_of_the_ks_does_not_matter():
    a, b, *_ = spaces()
    np.testing.assert_array_equal(overlap_curve(a, b, KS[::-1]), overlap_curve(a, b, KS)[:, ::-1])


def test_a_neighbour_is_shared_from_its_larger_rank_on():
    a, b = np.array([[5, 6, 7]]), np.array([[6, 8, 5]])
    np.testing.assert_allclose(overlap_curve(a, b, (1, 2, 3)), [[0, 1 / 2, 2 / 3]])


def test_every_k_of_the_label_curve_is_what_dadapy_finds():
    a, _, x, _, labels = spaces()
    curve = label_overlap_curve(a, labels, KS)
    for column, k in enumerate(KS):
        for weighted in (False, True):
            expected = dadapy.Data(coordinates=x, maxk=40).return_label_overlap(
                labels, k=k, weighted=weighted
            )
            found = label_overlap(a, labels, k, class_weighted=weighted).mean()
            assert found == pytest.approx(expected, rel=1e-12)
        np.testing.assert_array_equal(curve[:, column], label_overlap(a, labels, k))


@pytest.mark.parametrize("fraction", [0.05, 0.17])
def test_label_overlap_of_a_class_fraction_is_dadapys(fraction):
    a, _, x, _, labels = spaces()
    share, k = label_overlap_of_class_fraction(a, labels, fraction)
    expected = dadapy.Data(coordinates=x, maxk=40).return_label_overlap(
        labels, class_fraction=fraction, avg=False
    )
    np.testing.assert_allclose(share, expected, rtol=1e-12)
    sizes = np.bincount(labels)
    np.testing.assert_array_equal(k, (sizes * fraction).astype(int)[labels])


def test_a_tiny_class_has_at_least_one_neighbour():
    labels = np.array([0] * 4 + [1] * 2)
    indices = np.tile(np.array([[4, 5]]), (6, 1))
    indices[4:] = [[5, 0], [4, 0]]
    share, k = label_overlap_of_class_fraction(indices, labels, 0.3)
    np.testing.assert_array_equal(k, [1] * 6)
    np.testing.assert_array_equal(share, [0, 0, 0, 0, 1, 1])


def test_random_neighbours_have_the_expected_label_overlap():
    labels = clusters()[1]
    rng = np.random.default_rng(1)
    n = len(labels)
    indices = np.array([rng.permutation(np.delete(np.arange(n), i))[:20] for i in range(n)])
    expected = expected_label_overlap(labels)
    for label in range(3):
        of_class = labels == label
        found = label_overlap(indices, labels, 20)[of_class].mean()
        assert found == pytest.approx(expected[of_class].mean(), abs=0.03)


def test_impossible_requests_are_refused_with_a_reason():
    a, b, _, _, labels = spaces()
    with pytest.raises(ValueError, match="30 columns"):
        overlap_curve(a, b, (5, 31))
    with pytest.raises(ValueError, match="k is one of"):
        label_overlap_curve(a, labels, (0,))
    with pytest.raises(ValueError, match="different numbers of items: 300, 299"):
        overlap_curve(a, b[:-1], (5,))
    with pytest.raises(ValueError, match="299 labels do not match 300"):
        label_overlap_curve(a, labels[:-1], (5,))
    with pytest.raises(ValueError, match="needs 51 neighbours; the graph holds 30"):
        label_overlap_of_class_fraction(a, labels, 0.3)
    with pytest.raises(ValueError, match="fraction is 0"):
        label_overlap_of_class_fraction(a, labels, 0)
    with pytest.raises(ValueError, match="1 item"):
        expected_label_overlap(labels[:1])
