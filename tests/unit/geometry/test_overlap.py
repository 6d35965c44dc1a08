import itertools

import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_swiss_roll

from layersight.geometry.neighbours import nearest_neighbours
from layersight.geometry.overlap import (
    class_weights,
    derangement,
    expected_random_overlap,
    label_overlap,
    neighbourhood_overlap,
    overlap_within_groups,
    permuted_neighbours,
    random_pair_overlap,
)


def gaussian():
    return np.random.default_rng(0).standard_normal((500, 30))


def swiss_roll():
    return make_swiss_roll(500, noise=0.05, random_state=1)[0]


def clusters():
    return make_blobs(500, n_features=20, centers=6, cluster_std=4, random_state=2)[0]


CLOUDS = pytest.mark.parametrize("cloud", [gaussian, swiss_roll, clusters])


def perturbed(x, seed=5):
    return x + 0.5 * x.std() * np.random.default_rng(seed).standard_normal(x.shape)


@CLOUDS
@pytest.mark.parametrize("k", [3, 30])
def test_overlap_agrees_with_dadapy(cloud, k):
    dadapy = pytest.importorskip("dadapy")
    x, y = cloud(), perturbed(cloud())
    expected = dadapy.Data(coordinates=x, maxk=40).return_data_overlap(
        coordinates=y, k=k, avg=False
    )
    found = neighbourhood_overlap(
        nearest_neighbours(x, 30).indices, nearest_neighbours(y, 30).indices, k
    )
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert 0.05 < found.mean() < 0.99


@CLOUDS
def test_label_overlap_agrees_with_dadapy(cloud):
    dadapy = pytest.importorskip("dadapy")
    x = cloud()
    labels = np.digitize(x[:, 0], np.quantile(x[:, 0], [0.1, 0.4, 0.5]))
    indices = nearest_neighbours(x, 30).indices
    for weighted in (False, True):
        expected = dadapy.Data(coordinates=x, maxk=40).return_label_overlap(
            labels, k=30, weighted=weighted
        )
        found = label_overlap(indices, labels, 30, class_weighted=weighted).mean()
        assert found == pytest.approx(expected, rel=1e-12)


def test_a_space_overlaps_wholly_with_itself():
    indices = nearest_neighbours(gaussian(), 10).indices
    np.testing.assert_array_equal(neighbourhood_overlap(indices, indices, 10), 1.0)
    # The order inside a neighbourhood does not count.
    np.testing.assert_array_equal(neighbourhood_overlap(indices, indices[:, ::-1], 10), 1.0)


def test_independent_spaces_overlap_by_chance():
    rng = np.random.default_rng(1)
    a = nearest_neighbours(rng.standard_normal((600, 20)), 12).indices
    b = nearest_neighbours(rng.standard_normal((600, 20)), 12).indices
    chance = expected_random_overlap(600, 12)
    assert chance == 12 / 599
    assert neighbourhood_overlap(a, b, 12).mean() == pytest.approx(chance, abs=0.004)


def test_random_pairs_of_one_space_overlap_by_chance():
    indices = nearest_neighbours(np.random.default_rng(2).standard_normal((600, 20)), 12).indices
    found = random_pair_overlap(indices, indices, 12, np.random.default_rng(3))
    assert found.mean() == pytest.approx(expected_random_overlap(600, 12), abs=0.004)
    again = random_pair_overlap(indices, indices, 12, np.random.default_rng(3))
    np.testing.assert_array_equal(found, again)


def test_permuted_neighbours_are_those_of_the_permuted_vectors():
    x = gaussian()
    order = np.random.default_rng(4).permutation(len(x))
    moved = permuted_neighbours(nearest_neighbours(x, 8).indices, order)
    np.testing.assert_array_equal(moved, nearest_neighbours(x[order], 8).indices)


def test_derangements_are_uniform_and_leave_nothing_in_place():
    rng = np.random.default_rng(5)
    drawn = [tuple(derangement(4, rng).tolist()) for _ in range(4500)]
    possible = [
        order
        for order in itertools.permutations(range(4))
        if all(i != o for i, o in enumerate(order))
    ]
    counts = [drawn.count(order) for order in possible]
    assert sum(counts) == 4500
    assert len(possible) == 9
    assert min(counts) > 400
    with pytest.raises(ValueError, match="1 item"):
        derangement(1, rng)


def all_of(x):
    return nearest_neighbours(x, len(x) - 1).indices


def two_spaces_that_share_only_their_groups():
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(6), 40)
    centres_a, centres_b = 50 * rng.standard_normal((2, 6, 16))
    noise_a, noise_b = rng.standard_normal((2, 240, 16))
    order = rng.permutation(240)
    return (centres_a[groups] + noise_a)[order], (centres_b[groups] + noise_b)[order], groups[order]


def test_overlap_that_comes_from_groups_alone_vanishes_within_groups():
    a, b, groups = two_spaces_that_share_only_their_groups()
    k = 8
    whole = neighbourhood_overlap(
        nearest_neighbours(a, k).indices, nearest_neighbours(b, k).indices, k
    )
    within = overlap_within_groups(all_of(a), all_of(b), groups, k, rng=np.random.default_rng(0))
    by_chance_in_group = expected_random_overlap(40, k)
    assert whole.mean() == pytest.approx(by_chance_in_group, abs=0.03)
    assert whole.mean() > 5 * expected_random_overlap(240, k)
    assert within.paired.mean() == pytest.approx(by_chance_in_group, abs=0.03)
    assert within.random_pairs.mean() == pytest.approx(by_chance_in_group, abs=0.03)


def test_items_that_agree_within_groups_are_found_and_wrong_pairs_are_not():
    a, b, groups = two_spaces_that_share_only_their_groups()
    shared = 20 * np.random.default_rng(7).standard_normal((240, 16))
    near = all_of(a + shared), all_of(b + shared)
    within = overlap_within_groups(*near, groups, 8, rng=np.random.default_rng(0))
    assert within.paired.mean() > 0.7
    assert within.random_pairs.mean() == pytest.approx(expected_random_overlap(40, 8), abs=0.03)


def test_neighbours_within_groups_are_those_of_a_search_in_each_group():
    a, b, groups = two_spaces_that_share_only_their_groups()
    within = overlap_within_groups(all_of(a), all_of(b), groups, 8, rng=np.random.default_rng(0))
    for group in range(6):
        of = groups == group
        near = [nearest_neighbours(x[of], 8).indices for x in (a, b)]
        np.testing.assert_array_equal(within.paired[of], neighbourhood_overlap(*near, 8))
    assert within.items_unknown == 0


def test_a_group_whose_nearest_are_not_all_known_has_no_value():
    a, b, groups = two_spaces_that_share_only_their_groups()
    mixed = b * 0 + np.random.default_rng(9).standard_normal(b.shape)
    # Each list of a holds its group first; of b's, 60 of 239 hold about ten of a group of 40.
    near = nearest_neighbours(a, 60).indices, nearest_neighbours(mixed, 60).indices
    held = np.array([(groups[row] == groups[i]).sum() for i, row in enumerate(near[1])])
    unknown = {group for group in range(6) if held[groups == group].min() < 8}
    found = overlap_within_groups(*near, groups, 8, rng=np.random.default_rng(0))
    assert unknown
    assert found.items_unknown == 40 * len(unknown)
    np.testing.assert_array_equal(np.isnan(found.paired), np.isin(groups, list(unknown)))


def test_small_groups_are_left_out_and_counted():
    x = np.random.default_rng(8).standard_normal((30, 4))
    groups = np.array(["large"] * 12 + ["just"] * 7 + ["small"] * 6 + ["tiny"] * 5)
    near = all_of(x)
    found = overlap_within_groups(near, near, groups, 5, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(np.isnan(found.paired), np.isin(groups, ["small", "tiny"]))
    np.testing.assert_array_equal(np.isnan(found.random_pairs), np.isnan(found.paired))
    assert (found.groups_left_out, found.items_left_out) == (2, 11)
    assert (found.paired[:19] == 1).all()
    assert (found.random_pairs[:19] < 1).any()


def test_label_overlap_is_the_share_of_neighbours_with_the_same_label():
    indices = np.array([[1, 2], [0, 2], [3, 1], [2, 0]])
    labels = np.array(["cat", "cat", "dog", "dog"])
    np.testing.assert_array_equal(label_overlap(indices, labels, 2), [0.5, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(label_overlap(indices, labels, 1), [1, 1, 1, 1])


def test_class_weights_make_the_mean_one_over_classes():
    labels = np.array(["a"] * 9 + ["b"])
    weights = class_weights(labels)
    assert weights.mean() == pytest.approx(1)
    assert (weights * (labels == "b")).mean() == pytest.approx(0.5)


def test_impossible_requests_are_refused_with_a_reason():
    indices = np.array([[1, 2], [0, 2], [1, 0]])
    with pytest.raises(ValueError, match="k is 3"):
        neighbourhood_overlap(indices, indices, 3)
    with pytest.raises(ValueError, match="different numbers of items: 3, 2"):
        neighbourhood_overlap(indices, indices[:2], 1)
    with pytest.raises(ValueError, match="2 labels do not match 3"):
        label_overlap(indices, np.array([0, 1]), 1)
    with pytest.raises(ValueError, match="k is 3"):
        expected_random_overlap(3, 3)
    with pytest.raises(ValueError, match="do not match 2 group labels"):
        overlap_within_groups(indices, indices, np.array([0, 1]), 1, rng=np.random.default_rng(0))
