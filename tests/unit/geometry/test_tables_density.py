import numpy as np
import pytest
from tests.unit.geometry.five_clouds import (
    CLOUDS,
    N,
    clustered,
    distinct,
    gaussian,
    with_duplicates,
)

from layersight.geometry.clusters import agreement
from layersight.geometry.density import density_peaks
from layersight.geometry.graph import neighbour_graph
from layersight.geometry.measure import VectorsError
from layersight.geometry.neighbours import nearest_neighbours
from layersight.geometry.subsampling import rows_without_copies
from layersight.geometry.tables_density import (
    DENSITY_COLUMNS,
    DENSITY_MERGE_COLUMNS,
    DENSITY_PEAK_COLUMNS,
    density_tables,
)

pytest.importorskip("dadapy")

IDS = np.array([f"item-{i:03d}" for i in range(N)])
KIND = {item: ("cat", "dog", "bird")[i % 3] for i, item in enumerate(IDS)}


def stored(clouds, columns=60, metric="euclidean"):
    """One graph for each layer, as `GraphStore.read` gives it."""
    graphs = [neighbour_graph(IDS[: len(x)], x, columns, metric=metric) for x in clouds]

    def read(layer, stream):
        assert stream == "last"
        return graphs[layer]

    return read


def tables_of(clouds, metric="euclidean", columns=60, **settings):
    return density_tables(
        stored(clouds, columns, metric), subject="base", probe="concepts", streams=["last"],
        layers=range(len(clouds)), labels={"kind": KIND}, seed=1,
        **{"k": 8, "z": 0.5, "resamples": 5, **settings},
    )  # fmt: skip


@CLOUDS
def test_copies_in_a_neighbour_table_are_the_rows_that_repeat_an_earlier_one(cloud):
    x = cloud()
    table = nearest_neighbours(x, 10)
    expected = np.sort(np.unique(x, axis=0, return_index=True)[1])
    np.testing.assert_array_equal(rows_without_copies(table.indices, table.distances), expected)


def test_many_copies_leave_one_row_each():
    x = np.repeat(gaussian()[:6], 30, axis=0)
    table = nearest_neighbours(x, 5)
    np.testing.assert_array_equal(
        rows_without_copies(table.indices, table.distances), np.arange(0, 180, 30)
    )


def test_tables_hold_the_peaks_of_every_layer_without_copies():
    clouds = [gaussian(), with_duplicates(), clustered()]
    found = tables_of(clouds)
    assert found.measures.columns.tolist() == DENSITY_COLUMNS
    assert found.merges.columns.tolist() == DENSITY_MERGE_COLUMNS
    assert found.peaks.columns.tolist() == DENSITY_PEAK_COLUMNS
    for layer, x in enumerate(clouds):
        table = nearest_neighbours(distinct(x), 60)
        peaks = density_peaks(table.indices, table.distances, k=8, z=0.5)
        rows = found.measures[found.measures["layer"] == layer].set_index("metric")
        assert rows["value"]["peaks"] == len(peaks.peaks)
        assert rows["value"]["core_fraction"] == peaks.core_fraction
        assert rows["value"]["dimension"] == peaks.dimension
        kept = np.sort(np.unique(x, axis=0, return_index=True)[1])
        agreed = agreement(peaks.labels, np.array([KIND[item] for item in IDS[kept]]))
        for name, value in agreed.items():
            assert rows["value"][name] == value
            assert rows["labels"][name] == "kind"
        assert set(rows["n"]) == {len(kept)}
        of_layer = found.peaks[found.peaks["layer"] == layer]
        assert of_layer["item_id"].tolist() == IDS[kept][peaks.peaks].tolist()
        assert of_layer["items"].sum() == len(kept)
        assert np.count_nonzero(found.merges["layer"] == layer) == len(peaks.peaks) - 1


def test_a_layer_does_not_depend_on_the_others():
    whole = tables_of([gaussian(), clustered()]).measures.query("layer == 0")
    alone = tables_of([gaussian()]).measures
    assert whole.reset_index(drop=True).equals(alone)


def test_cosine_distances_enter_as_chords():
    x = gaussian()
    found = tables_of([x], metric="cosine").measures.set_index("metric")
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    table = nearest_neighbours(unit, 60)
    peaks = density_peaks(table.indices, table.distances, k=8, z=0.5)
    assert found["value"]["dimension"] == pytest.approx(peaks.dimension, rel=1e-6)
    assert found["value"]["peaks"] == len(peaks.peaks)


def test_parallel_vectors_count_once_under_the_cosine_metric():
    x = gaussian()
    x[50:70] = 2 * x[:20]
    measured = tables_of([x], metric="cosine").measures
    assert set(measured["n"]) == {N - 20}
    alone = tables_of([distinct(np.delete(x, range(50, 70), axis=0))], metric="cosine").measures
    values = measured.set_index("metric")["value"], alone.set_index("metric")["value"]
    assert values[0]["dimension"] == pytest.approx(values[1]["dimension"], rel=1e-9)
    assert values[0]["peaks"] == values[1]["peaks"]


def test_layers_where_density_is_undefined_have_rows_and_no_peaks():
    same = np.ones((N, 3))
    few = gaussian()[:9]
    found = tables_of([same, few])
    assert found.measures["value"].isna().all()
    assert found.measures.groupby("layer")["n"].first().tolist() == [1, 9]
    defined = tables_of([gaussian()]).measures
    for _, rows in found.measures.groupby("layer"):
        assert rows[["metric", "labels"]].to_numpy().tolist() == (
            defined[["metric", "labels"]].to_numpy().tolist()
        )
    assert len(found.merges) == len(found.peaks) == 0


def test_narrow_tables_and_items_without_a_label_are_refused():
    with pytest.raises(VectorsError, match="keeps 20 neighbours of every item; .* needs 32"):
        tables_of([gaussian()], columns=20)
    with pytest.raises(VectorsError, match="260 of 260 items have no 'modality'"):
        density_tables(
            stored([gaussian()]), subject="base", probe="concepts", streams=["last"],
            layers=[0], labels={"modality": {}}, seed=1,
        )  # fmt: skip
