import numpy as np
import pytest
from tests.unit.geometry.five_clouds import CLOUDS, distinct, gaussian, perturbed, swiss_roll

from layersight.geometry.imbalance import (
    conditional_ranks,
    imbalance_measures,
    information_imbalance,
)
from layersight.geometry.neighbours import nearest_neighbours

dadapy = pytest.importorskip("dadapy")


def all_neighbours(x):
    return nearest_neighbours(x, len(x) - 1).indices


@CLOUDS
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.filterwarnings("ignore:Subset size greater")
def test_imbalance_agrees_with_dadapy(cloud, k):
    x = distinct(cloud())
    y = perturbed(x)
    data = dadapy.Data(coordinates=x, n_jobs=1)
    expected = data.return_information_imbalace(y, k=k)
    a, b = all_neighbours(x), all_neighbours(y)
    for (left, right), (value, _) in zip(((a, b), (b, a)), expected, strict=True):
        found, beyond = information_imbalance(left, right, k)
        assert found.mean() == pytest.approx(value, rel=1e-12)
        assert beyond == 0
        assert found.mean() < 0.9


def test_a_short_table_gives_the_expectation_of_what_dadapy_draws():
    x, y = gaussian(), perturbed(gaussian())
    a, b = all_neighbours(x), all_neighbours(y)[:, :10]
    from dadapy._utils.metric_comparisons import _return_imbalance

    own = np.arange(len(x))[:, np.newaxis]
    rng = np.random.default_rng(0)
    drawn = [_return_imbalance(np.hstack([own, a]), np.hstack([own, b]), rng) for _ in range(60)]
    found, beyond = information_imbalance(a, b)
    error = np.std(drawn) / np.sqrt(60)
    assert found.mean() == pytest.approx(np.mean(drawn), abs=4 * error)
    assert beyond == np.isnan(conditional_ranks(a, b)).mean() > 0.05


@pytest.mark.parametrize("k", [1, 4])
def test_a_space_foretells_itself_and_an_unrelated_one_not_at_all(k):
    x = gaussian()
    own = all_neighbours(x)
    np.testing.assert_allclose(information_imbalance(own, own, k)[0], (k + 1) / len(x))
    other = all_neighbours(np.random.default_rng(1).standard_normal((len(x), 8)))
    assert information_imbalance(own, other, k)[0].mean() == pytest.approx(1, abs=0.1)


def test_the_space_that_holds_more_foretells_the_one_that_holds_less():
    x = swiss_roll()
    whole, part = all_neighbours(x), all_neighbours(x[:, :1])
    there = information_imbalance(whole, part)[0].mean()
    back = information_imbalance(part, whole)[0].mean()
    assert there < 0.3 < 0.5 * back


def test_ranks_of_known_neighbours():
    a = np.array([[2, 1], [0, 2], [1, 0]])
    b = np.array([[1, 2], [0, 2], [0, 1]])
    np.testing.assert_array_equal(conditional_ranks(a, b, 2), [[2, 1], [1, 2], [2, 1]])
    np.testing.assert_array_equal(conditional_ranks(a, b[:, :1]), [[np.nan], [1], [np.nan]])


def test_measures_have_both_directions_and_an_interval():
    x, y = gaussian(), perturbed(gaussian())
    a, b = all_neighbours(x), all_neighbours(y)[:, :50]
    found = imbalance_measures(a, b, k=2, resamples=400, level=0.8, rng=np.random.default_rng(2))
    assert [one.metric for one in found] == [
        "imbalance_x_to_y",
        "imbalance_y_to_x",
        "imbalance_x_to_y_beyond",
        "imbalance_y_to_x_beyond",
    ]
    values, beyond = information_imbalance(a, b, 2)
    assert found[0].value == values.mean()
    half = 1.2816 * values.std() / np.sqrt(len(x))
    assert found[0].low == pytest.approx(values.mean() - half, abs=0.25 * half)
    assert found[0].high == pytest.approx(values.mean() + half, abs=0.25 * half)
    assert (found[2].value, found[3].value) == (beyond, 0)
    assert {one.n for one in found} == {len(x)}


def test_impossible_requests_are_refused_with_a_reason():
    indices = np.array([[1, 2], [0, 2], [1, 0]])
    with pytest.raises(ValueError, match="k is 3"):
        information_imbalance(indices, indices, 3)
    with pytest.raises(ValueError, match="the same items"):
        information_imbalance(indices, indices[:2])
