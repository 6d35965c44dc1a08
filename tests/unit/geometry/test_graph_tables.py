import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from layersight.activations.store import ActivationWriter
from layersight.errors import DataError
from layersight.geometry.graph import neighbour_graph
from layersight.geometry.graph_stages import (
    find_neighbours,
    find_pair_neighbours,
    measure_dimension,
)
from layersight.geometry.graph_store import GraphStore
from layersight.geometry.graph_tables import (
    DENSITY,
    DIMENSION,
    DimensionSettings,
    density_table,
    dimension_table,
)
from layersight.geometry.intrinsic_dimension import gride, two_nn
from layersight.geometry.knn_density import knn_log_density
from layersight.geometry.neighbours import first_copies, nearest_neighbours
from layersight.geometry.overlap import label_overlap, neighbourhood_overlap
from layersight.geometry.overlap_tables import (
    Compared,
    OverlapSettings,
    consecutive,
    label_overlap_table,
    overlap_table,
)
from layersight.storage.tables import read_frame, write_table

N, D = 150, 6
IDS = np.array([f"item-{i:03d}" for i in range(N)])
DIMENSION_SETTINGS = DimensionSettings(
    gride_range_max=32, decimated_fewest=30, density_n2=8, resamples=50
)
OVERLAP_SETTINGS = OverlapSettings(ks=(1, 5, 20, 45), class_fractions=(0.2, 1.0), resamples=50)
LABELS = {item: row % 3 for row, item in enumerate(IDS.tolist())}


def vectors(name, layer):
    """Layer 0 is one vector for all items; the layers of one name resemble each other."""
    if layer == 0:
        return np.ones((N, D), dtype=np.float32)
    shared = np.random.default_rng(0).standard_normal((N, D))
    own = np.random.default_rng([layer, len(name)]).standard_normal((N, D))
    x = (shared + 0.3 * layer * own).astype(np.float32)
    x[7] = x[2]
    return x


def reader(name, k=40, order=slice(None)):
    return lambda layer, stream: neighbour_graph(IDS[order], vectors(name, layer)[order], k)


def dimensions(read, layers=(0, 1, 2), settings=DIMENSION_SETTINGS, seed=3):
    frame = dimension_table(
        read, subject="base", probe="p", streams=["last"], layers=layers, settings=settings,
        seed=seed,
    )  # fmt: skip
    return frame


def distinct(name, layer):
    return np.delete(vectors(name, layer), 7, axis=0)


def test_dimensions_are_those_of_the_distinct_vectors():
    frame = dimensions(reader("a")).query("layer == 2")
    rows = {(row.estimator, row.n2): row for row in frame.query("parts == 1").itertuples()}
    distances = nearest_neighbours(distinct("a", 2), 40).distances
    base, ml = two_nn(distances), two_nn(distances, algorithm="ml")
    assert rows["two_nn", 2].dimension == base.dimension
    assert rows["two_nn_ml", 2].dimension == ml.dimension
    for estimate in gride(distances, 32):
        row = rows["gride", estimate.n2]
        assert (row.dimension, row.scale) == (estimate.dimension, estimate.scale)
        assert row.low < row.dimension < row.high
    assert (frame.n == N - 1).all()
    assert (frame.copies == 1).all()
    decimated = frame.query("estimator == 'two_nn_decimated'")
    assert decimated.parts.tolist() == [1, 2, 4]
    assert decimated.dimension.iloc[0] == base.dimension


def test_one_scale_of_each_curve_is_its_plateau():
    frame = dimensions(reader("a")).query("layer > 0")
    for _, curve in frame.groupby(["layer", "estimator"]):
        wanted = 1 if curve.estimator.iloc[0] in ("gride", "two_nn_decimated") else 0
        assert curve.plateau.sum() == wanted
        # Of three scales or more the first and the last are no middle.
        assert not curve.plateau.iloc[[0, -1]].any()


def test_an_undefined_layer_has_all_its_rows():
    frame = dimensions(reader("a"))
    there, missing = frame.query("layer == 1"), frame.query("layer == 0")
    assert missing[["dimension", "low", "high", "scale"]].isna().all(axis=None)
    assert (missing.n == 1).all()
    assert set(missing.estimator) == set(there.estimator)
    assert (missing.estimator == "gride").sum() == (there.estimator == "gride").sum() == 5


def test_scales_beyond_the_graph_are_undefined():
    frame = dimensions(reader("a", k=12), layers=[1]).query("estimator == 'gride'")
    assert frame.dimension.isna().tolist() == [False, False, False, True, True]


def test_vectors_that_coincide_leave_the_dimension_undefined_and_are_counted():
    x = vectors("a", 1)
    x[9] = 2 * x[8]
    graph = neighbour_graph(IDS, x, 40, metric="cosine")
    frame = dimensions(lambda layer, stream: graph, layers=[1])
    assert frame.dimension.isna().all()
    assert (frame.coincident == 2).all()


def test_no_number_depends_on_which_others_are_computed():
    whole = dimensions(reader("a")).query("layer == 2").reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, dimensions(reader("a"), layers=[2]))
    other = dimensions(reader("a"), layers=[2], seed=4)
    assert not other.low.equals(whole.low)


def test_densities_are_taken_with_the_dimension_of_the_layer():
    frame = density_table(
        reader("a"), subject="base", probe="p", streams=["last"], layers=[0, 1],
        settings=DIMENSION_SETTINGS,
    )  # fmt: skip
    assert frame.query("layer == 0").log_density.isna().tolist() == [True]
    found = frame.query("layer == 1")
    distances = nearest_neighbours(distinct("a", 1), 40).distances
    dimension = gride(distances)[2].dimension
    expected, error = knn_log_density(distances, dimension, 16)
    np.testing.assert_array_equal(found.log_density, expected)
    assert (found.error == error).all()
    assert found.dimension.unique().tolist() == [dimension]
    assert found.item_id.tolist() == np.delete(IDS, 7).tolist()


def overlaps(first, second, layers=((1, 1), (2, 2)), settings=OVERLAP_SETTINGS, seed=1):
    sides = Compared(first, "full/seed-0", "p", "last"), Compared(second, "base", "p", "last")
    return overlap_table(
        [sides], comparison="tuned_base", layers=layers, settings=settings, seed=seed
    )


def test_overlaps_are_those_of_a_search_among_the_items_of_both():
    order = np.random.default_rng(4).permutation(N)
    frame = overlaps(reader("a"), reader("bb", order=order)).set_index(["layer", "k"])
    for layer in (1, 2):
        # Of the two equal vectors, the first in the order of the first graph takes part.
        kept = np.delete(np.arange(N), 7)
        a = nearest_neighbours(vectors("a", layer)[kept], 20).indices
        b = nearest_neighbours(vectors("bb", layer)[kept], 20).indices
        for k in (1, 5, 20):
            row = frame.loc[(layer, k)]
            assert row.value == neighbourhood_overlap(a, b, k).mean()
            assert row.low <= row.value <= row.high
            assert row.chance == k / (len(kept) - 1)
            assert row.random_low <= row.random_pairs <= row.random_high
        assert frame.loc[(layer, 20)].random_pairs == pytest.approx(20 / 149, abs=0.03)
        assert np.isnan(frame.loc[(layer, 45)].value), "beyond the lists of the graph"


def test_a_space_overlaps_wholly_with_itself_and_not_at_all_by_chance():
    frame = overlaps(reader("a"), reader("a"))
    values = frame.query("k < 45")[["value", "low", "high"]]
    assert (values == 1).all(axis=None)
    assert (frame.query("k == 5").random_high < 0.2).all()


def test_an_overlap_without_distinct_items_is_undefined():
    frame = overlaps(reader("a"), reader("bb"), layers=[(0, 0)])
    assert frame.n.tolist() == [1] * 4
    assert frame[["value", "low", "high", "random_pairs", "chance"]].isna().all(axis=None)


def test_graphs_of_different_items_are_refused_with_their_place():
    def other(layer, stream):
        return neighbour_graph(np.char.add(IDS, "x"), vectors("a", layer), 8)

    with pytest.raises(DataError, match=r"tuned_base/full/seed-0/base/p/p/last/last/1/1: .*differ"):
        overlaps(reader("a"), other)


def test_consecutive_layers_are_compared_and_each_graph_is_read_once():
    calls = []

    def read(layer, stream):
        calls.append(layer)
        return reader("a")(layer, stream)

    side = Compared(read, "base", "p", "last")
    frame = overlap_table(
        [(side, side)], comparison="consecutive", layers=consecutive([1, 2, 3]),
        settings=OVERLAP_SETTINGS, seed=0,
    )  # fmt: skip
    assert calls == [1, 2, 3]
    assert frame.groupby(["layer", "reference_layer"]).ngroups == 2
    a, b = (nearest_neighbours(distinct("a", layer), 5).indices for layer in (2, 3))
    found = frame.query("layer == 2 and k == 5").value.item()
    assert found == neighbourhood_overlap(a, b, 5).mean()


def label_overlaps(labels, read=None, layers=(1,)):
    return label_overlap_table(
        read or reader("a", k=60), subject="base", probe="p", streams=["last"], layers=layers,
        labels={"kind": labels}, settings=OVERLAP_SETTINGS, seed=0,
    )  # fmt: skip


def test_label_overlaps_are_those_of_the_distinct_items():
    labels = {item: int(row > 110) for row, item in enumerate(IDS.tolist())}
    frame = label_overlaps(labels)
    x, codes = distinct("a", 1), np.delete(np.array(list(labels.values())), 7)
    indices = nearest_neighbours(x, 60).indices
    for k in OVERLAP_SETTINGS.ks:
        for weighting, weighted in (("items", False), ("classes", True)):
            found = frame[(frame.weighting == weighting) & (frame.k == k)].iloc[0]
            expected = label_overlap(indices, codes, k, class_weighted=weighted).mean()
            assert found.value == pytest.approx(expected, rel=1e-12)
            assert found.low <= found.value <= found.high
    chances = frame.query("k == 5").set_index("weighting").chance
    sizes = np.bincount(codes)
    assert chances["classes"] == pytest.approx(((sizes - 1) / 148).mean())
    assert chances["items"] == pytest.approx((sizes / 149 * (sizes - 1) / 148).sum())
    assert frame.query("class_fraction == 0.2").value.notna().all()
    assert frame.query("class_fraction == 1").value.isna().all(), "110 neighbours of 60"


def test_items_without_a_label_are_left_out():
    labels = {item: None if row < 30 else row % 3 for row, item in enumerate(IDS.tolist())}
    frame = label_overlaps(labels)
    assert (frame.n == 120).all()
    indices = nearest_neighbours(vectors("a", 1)[30:], 5).indices
    codes = np.arange(30, N) % 3
    found = frame.query("k == 5 and weighting == 'items'").value.item()
    assert found == pytest.approx(label_overlap(indices, codes, 5).mean(), rel=1e-12)


def test_no_labels_at_all_and_undefined_layers_give_rows_with_nan():
    nothing = label_overlaps(dict.fromkeys(IDS.tolist()))
    assert (nothing.n == 0).all()
    assert nothing.value.isna().all()
    one = label_overlaps(LABELS, layers=[0])
    assert len(one) == len(nothing)
    assert one.value.isna().all()


def test_an_item_that_is_not_among_the_labels_is_an_error():
    with pytest.raises(DataError, match="1 of 149 items have no label .*item-004"):
        label_overlaps({item: 0 for item in IDS.tolist() if item != "item-004"})


def test_from_activations_to_tables(tmp_path):
    for subject in ("base", "tuned"):
        writer = ActivationWriter(
            tmp_path / subject, layers=3, width=D, dtype="float16", rows_per_part=64
        )
        for stream in ("last", "image"):
            stacked = np.stack([vectors(subject + stream, layer) for layer in range(3)])
            for rows in (slice(0, 70), slice(70, N)):
                part = IDS[rows].tolist()
                writer.add(part, stream, [None] * len(part), stacked[:, rows])
        writer.flush()
        find_neighbours(
            subject=subject, probe="p", activations=tmp_path / subject, k=40,
            streams=["last", "image", "text"], out=tmp_path / f"{subject}-graphs",
        )  # fmt: skip
    graphs = {"p": tmp_path / "tuned-graphs"}
    common = {"subject": "tuned", "graphs": graphs, "streams": ["last", "image", "text"], "seed": 0}
    measure_dimension(
        **common, settings=DIMENSION_SETTINGS, dimension_out=tmp_path / "dimension.parquet",
        density_out=tmp_path / "density.parquet",
    )  # fmt: skip
    dimension = read_frame(tmp_path / "dimension.parquet")
    assert dimension.columns.tolist() == DIMENSION.names
    assert set(dimension.stream) == {"last", "image"}
    stored = vectors("tunedlast", 2).astype(np.float16)
    expected = two_nn(nearest_neighbours(np.delete(stored, 7, axis=0), 2).distances).dimension
    found = dimension.query("layer == 2 and stream == 'last' and estimator == 'two_nn'")
    assert found.dimension.item() == expected
    assert read_frame(tmp_path / "density.parquet").columns.tolist() == DENSITY.names


def stored(folder, name, order=slice(None)):
    writer = ActivationWriter(folder, layers=3, width=D, dtype="float32", rows_per_part=64)
    rows = np.stack([vectors(name, layer)[order] for layer in range(3)])
    ids = IDS[order].tolist()
    writer.add(ids, "last", [None] * len(ids), rows)
    writer.flush()
    return folder


@pytest.mark.parametrize("unit", [True, False])
def test_pooled_clouds_have_the_neighbours_of_their_union(tmp_path, unit):
    backwards = slice(None, None, -1)
    stored(tmp_path / "a" / "pictures", "image")
    stored(tmp_path / "a" / "words", "words!", backwards)
    find_pair_neighbours(
        subject="base", pair="concepts", activations=tmp_path / "a", image_probe="pictures",
        text_probe="words", streams={"ends": ("last", "last")}, out=tmp_path / "g", k=20,
        unit=unit,
    )  # fmt: skip
    graph = GraphStore(tmp_path / "g", "euclidean").read(2, "ends")
    ids = [f"image:{item}" for item in IDS] + [f"text:{item}" for item in IDS[backwards]]
    assert graph.item_ids.tolist() == ids
    both = np.concatenate([vectors("image", 2), vectors("words!", 2)[backwards]]).astype(float)
    if unit:
        both /= np.linalg.norm(both, axis=1, keepdims=True)
    kept = np.flatnonzero(first_copies(both))
    assert len(kept) == 2 * N - 2
    np.testing.assert_array_equal(graph.rows, kept)
    expected = NearestNeighbors(n_neighbors=20, algorithm="brute").fit(both[kept])
    distances, indices = expected.kneighbors()
    np.testing.assert_array_equal(graph.indices, indices)
    np.testing.assert_allclose(graph.distances, distances, rtol=1e-9)
    # One vector for all items of both.
    assert len(GraphStore(tmp_path / "g").read(0, "ends").rows) == 1


def test_clouds_of_other_layers_or_widths_are_not_pooled(tmp_path):
    stored(tmp_path / "pictures", "image")
    for layers, width, message in ((2, D, "different layers"), (3, 4, "6 and 4 numbers")):
        folder = tmp_path / f"words-{layers}"
        writer = ActivationWriter(folder, layers=layers, width=width, dtype="float32",
                                  rows_per_part=64)  # fmt: skip
        writer.add(IDS.tolist(), "last", [None] * N, np.ones((layers, N, width)))
        writer.flush()
        with pytest.raises(DataError, match=message):
            find_pair_neighbours(
                subject="base", pair="concepts", activations=tmp_path, image_probe="pictures",
                text_probe=folder.name, streams={"ends": ("last", "last")}, out=tmp_path / "g",
                k=20,
            )  # fmt: skip
        assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(("distinct", "defined"), [(9, 0), (10, 2 + 3), (17, 2 + 4)])
def test_dimensions_need_ten_distinct_vectors_and_enough_ranks(distinct, defined):
    few = np.random.default_rng(2).standard_normal((distinct, D))
    frame = dimensions(lambda *_: neighbour_graph(IDS[:distinct], few, 40), [1])
    assert frame.query("estimator != 'two_nn_decimated'").dimension.notna().sum() == defined


def test_the_dimension_with_cosine_distances_is_not_halved():
    rng = np.random.default_rng(0)
    x = 5 * rng.standard_normal(64) + rng.standard_normal((N, 64))
    x *= rng.uniform(0.5, 2, (N, 1))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = two_nn(nearest_neighbours(unit, 2).distances).dimension
    frame = dimensions(lambda *_: neighbour_graph(IDS, x, 40, metric="cosine"), [1])
    found = frame.query("estimator == 'two_nn'").dimension.item()
    assert found == pytest.approx(expected, rel=1e-9)


def test_vectors_of_one_direction_have_no_dimension_under_cosine():
    x = np.outer(2.0 ** np.arange(40), np.ones(4))
    frame = dimensions(lambda *_: neighbour_graph(IDS[:40], x, 30, metric="cosine"), [1])
    assert frame.dimension.isna().all()
    assert (frame.coincident == 40).all()


def test_tables_fit_their_schemas(tmp_path):
    write_table(tmp_path / "t.parquet", dimensions(reader("a")), DIMENSION)
    assert read_frame(tmp_path / "t.parquet").plateau.dtype == bool
