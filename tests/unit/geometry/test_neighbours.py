import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import layersight
from layersight.errors import UserError
from layersight.geometry.neighbours import (
    NeighboursError,
    first_copies,
    first_equal_rows,
    nearest_neighbours,
    zero_rows,
)
from layersight.geometry.tensor_work import group_size, smallest


def brute_force(vectors, k, metric="euclidean"):
    """Float64 distances by difference, one row at a time; ties by index."""
    x = vectors.astype(np.float64)
    if metric == "cosine":
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    indices, distances = [], []
    for row in range(len(x)):
        squared = ((x - x[row]) ** 2).sum(axis=1)
        distance = squared / 2 if metric == "cosine" else np.sqrt(squared)
        distance[row] = np.inf
        order = np.argsort(distance, kind="stable")[:k]
        indices.append(order)
        distances.append(distance[order])
    return np.array(indices), np.array(distances)


def gaussian(rng):
    return rng.standard_normal((400, 96))


def near_duplicates(rng):
    # Pairs and triples 1e-5 apart, at distance 1e3 from the mean of the data.
    centres = 1e3 * rng.standard_normal((120, 64))
    return np.repeat(centres, 3, axis=0) + 1e-3 * rng.standard_normal((360, 64))


def tight_crowds(rng):
    # More near-copies than the margin of candidates holds, so that float32 cannot rank them.
    centres = 1e2 * rng.standard_normal((4, 64))
    return np.repeat(centres, 90, axis=0) + 1e-4 * rng.standard_normal((360, 64))


def one_massive_constant_dimension(rng):
    x = rng.standard_normal((400, 96))
    x[:, 17] = 1e3 + 1e-2 * rng.standard_normal(400)
    return x


def one_massive_varying_dimension(rng):
    x = rng.standard_normal((400, 96))
    x[:, 17] = 1e3 * rng.standard_normal(400)
    return x


def a_few_massive_rows(rng):
    x = 1e-2 * rng.standard_normal((400, 96))
    x[:5] += 1e4
    return x


def large_norms(rng):
    return 1e4 / np.sqrt(96) * (1 + 1e-3 * rng.standard_normal((400, 96)))


def integer_grid(rng):
    # Many exact ties and copies.
    return rng.integers(0, 3, (400, 4)) + 0.0


HARD_CASES = [
    gaussian,
    near_duplicates,
    tight_crowds,
    one_massive_constant_dimension,
    one_massive_varying_dimension,
    a_few_massive_rows,
    large_norms,
    integer_grid,
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("case", HARD_CASES, ids=lambda case: case.__name__)
def test_neighbours_are_those_of_a_float64_brute_force(case, dtype):
    x = case(np.random.default_rng(0)).astype(dtype)
    found = nearest_neighbours(x, 10)
    indices, distances = brute_force(x, 10)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-13)
    assert found.indices.dtype == np.int32
    assert found.distances.dtype == np.float64


@pytest.mark.parametrize("case", [gaussian, near_duplicates, large_norms, tight_crowds])
def test_cosine_neighbours_are_those_of_a_float64_brute_force(case):
    x = case(np.random.default_rng(1)).astype(np.float32)
    found = nearest_neighbours(x, 7, metric="cosine")
    indices, distances = brute_force(x, 7, "cosine")
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    cosine = np.einsum("id,ikd->ik", unit, unit[found.indices])
    np.testing.assert_allclose(found.distances, 1 - cosine, atol=1e-14)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_little_memory_changes_nothing(metric):
    # With 1 MiB not even a float32 copy of the vectors fits, so that it is made piece by piece.
    x = np.random.default_rng(2).standard_normal((1500, 96)).astype(np.float32)
    x[700:800] = x[:100] * (1 + 1e-6)
    whole = nearest_neighbours(x, 12, metric=metric)
    blocked = nearest_neighbours(x, 12, metric=metric, memory_mb=1)
    np.testing.assert_array_equal(whole.indices, blocked.indices)
    np.testing.assert_array_equal(whole.distances, blocked.distances)


@pytest.mark.parametrize(("columns", "count"), [(4, 4), (40, 39), (300, 7), (301, 3), (4000, 150)])
@pytest.mark.parametrize("values", ["random", "tied", "sorted"])
def test_the_smallest_of_a_row_are_those_of_a_sort(columns, count, values):
    rng = np.random.default_rng(columns)
    x = rng.integers(0, 9, (5, columns)) if values == "tied" else rng.standard_normal((5, columns))
    x = np.sort(x, axis=1) if values == "sorted" else x
    columns = -(-columns // group_size(columns, count)) * group_size(columns, count)
    padded = torch.full((5, columns), torch.inf, dtype=torch.float64)
    padded[:, : x.shape[1]] = torch.from_numpy(x)
    least, where = smallest(padded, count)
    np.testing.assert_array_equal(least.sort(dim=1).values, np.sort(x, axis=1)[:, :count])
    np.testing.assert_array_equal(padded.gather(1, where), least)
    assert all(len(set(row.tolist())) == count for row in where)


def test_all_numbers_of_threads_give_the_same_numbers_and_leave_torch_as_it_was():
    x = tight_crowds(np.random.default_rng(7)).astype(np.float32)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(nearest_neighbours(x, 10))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0].indices, found[1].indices)
    np.testing.assert_array_equal(found[0].distances, found[1].distances)


def test_every_rung_of_the_search_is_reached_by_the_hard_cases():
    """Without this the fallbacks could be wrong and the tests above still pass."""
    rng = np.random.default_rng(0)
    assert nearest_neighbours(gaussian(rng).astype(np.float32), 10).settled == (400, 0, 0)
    shifted = nearest_neighbours(one_massive_constant_dimension(rng) + 300, 10)
    assert shifted.settled == (400, 0, 0), "centring removes what all rows share"
    crowds = nearest_neighbours(tight_crowds(rng), 10).settled
    assert crowds[1] > 300, "float32 cannot rank near-copies far from the mean"
    assert crowds[2] == 0
    copies = nearest_neighbours(np.repeat(gaussian(rng)[:4], 50, axis=0), 10).settled
    assert copies == (0, 0, 200), "exact copies beyond the margin are never proven"


def test_memory_stays_near_the_budget_and_far_below_all_pairs():
    script = """
import resource, numpy as np, torch
from layersight.geometry.neighbours import nearest_neighbours
torch.set_num_threads(1)
x = np.random.default_rng(0).standard_normal((9000, 32), dtype=np.float32)
nearest_neighbours(x[:500], 5)
resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
nearest_neighbours(x, 5, memory_mb=24)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - max(resident, peak)
print(grown / 2**20)
"""
    library = str(Path(layersight.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": library},
    )
    all_pairs = 9000**2 * 4 / 2**20
    assert float(done.stdout) < 50 < all_pairs / 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("case", HARD_CASES[:-1], ids=lambda case: case.__name__)
def test_a_gpu_gives_the_same_neighbours(case, metric):
    x = case(np.random.default_rng(0)).astype(np.float32)
    cpu = nearest_neighbours(x, 10, metric=metric)
    gpu = nearest_neighbours(x, 10, metric=metric, device="cuda")
    np.testing.assert_array_equal(cpu.indices, gpu.indices)
    np.testing.assert_allclose(cpu.distances, gpu.distances, rtol=1e-14)


def test_neighbours_are_those_of_scikit_learn():
    x = np.random.default_rng(5).standard_normal((600, 40))
    for metric in ("euclidean", "cosine"):
        reference = NearestNeighbors(n_neighbors=9, algorithm="brute", metric=metric).fit(x)
        distances, indices = reference.kneighbors()
        found = nearest_neighbours(x, 9, metric=metric)
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_allclose(found.distances, distances, rtol=1e-10)


def test_the_vectors_are_left_as_they_are():
    for dtype in (np.float32, np.float64):
        x = gaussian(np.random.default_rng(6)).astype(dtype)
        before = x.copy()
        x.setflags(write=False)
        nearest_neighbours(x, 5, metric="cosine")
        nearest_neighbours(x[::2], 5)
        np.testing.assert_array_equal(x, before)


def test_the_nearest_of_a_copy_is_the_copy_and_never_the_row_itself():
    x = np.random.default_rng(3).standard_normal((50, 8)).astype(np.float32)
    x[20] = x[4]
    found = nearest_neighbours(x, 5)
    assert found.indices[20, 0] == 4
    assert found.indices[4, 0] == 20
    assert found.distances[4, 0] == 0
    assert not (found.indices == np.arange(50)[:, np.newaxis]).any()
    assert found.duplicates == 1


def test_identical_rows_have_neighbours_in_order_of_index():
    found = nearest_neighbours(np.full((6, 3), 2.5, dtype=np.float16), 3)
    expected = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]]
    np.testing.assert_array_equal(found.indices, expected)
    assert (found.distances == 0).all()
    assert found.duplicates == 5


def test_more_identical_rows_than_candidates_keep_the_order_of_index():
    found = nearest_neighbours(np.full((90, 3), 2.5, dtype=np.float32), 3)
    np.testing.assert_array_equal(found.indices[3:], np.tile([0, 1, 2], (87, 1)))


@pytest.mark.parametrize("k", [49, 40])
def test_k_may_reach_all_other_rows(k):
    x = np.random.default_rng(4).standard_normal((50, 8))
    np.testing.assert_array_equal(nearest_neighbours(x, k).indices, brute_force(x, k)[0])


def test_rows_know_which_row_they_copy():
    x = np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0], [-0.0, 0.0], [1.0, 2.0]], dtype=np.float16)
    np.testing.assert_array_equal(first_equal_rows(x), [0, 1, 0, 1, 0])
    np.testing.assert_array_equal(zero_rows(x), [False, True, False, True, False])


def test_first_copies_marks_all_but_the_first():
    x = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [1.0, 1e-7], [1.0, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(first_copies(x), [True, True, False, True, False])


@pytest.mark.parametrize(
    ("vectors", "k", "options", "message"),
    [
        (np.ones((5, 2)), 5, {}, "k is 5, but 5 vectors have between 1 and 4"),
        (np.ones((5, 2)), 0, {}, "k is 0"),
        (np.ones(5), 1, {}, r"shape \(n, d\)"),
        (np.array([[0.0], [np.nan], [1.0]]), 1, {}, "the first is row 1"),
        (np.array([[0.0], [1.0], [np.inf]]), 1, {}, "the first is row 2"),
        (np.array([[1.0], [0.0], [1.0]]), 1, {"metric": "cosine"}, "row 1 of 3 is zero"),
        (np.ones((5, 2)), 1, {"metric": "manhattan"}, "known are 'euclidean' and 'cosine'"),
        (np.ones((5, 2)), 1, {"memory_mb": 0}, r"need at least 1 .MiB"),
        (np.ones((30000, 2)), 20, {"memory_mb": 9}, r"need at least 17 .MiB"),
    ],
)
def test_impossible_requests_are_refused_with_a_reason(vectors, k, options, message):
    with pytest.raises(NeighboursError, match=message):
        nearest_neighbours(vectors, k, **options)


def test_what_is_refused_is_a_users_mistake_and_a_value_error():
    assert issubclass(NeighboursError, UserError)
    assert issubclass(NeighboursError, ValueError)
