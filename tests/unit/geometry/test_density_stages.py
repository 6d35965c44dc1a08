import numpy as np
import pandas as pd
import pytest
from tests.unit.geometry.five_clouds import clustered, gaussian, with_duplicates

from layersight.errors import DataError
from layersight.geometry.density import density_peaks
from layersight.geometry.density_stages import (
    DENSITY_MERGES,
    DENSITY_PEAK_LIST,
    DENSITY_PEAKS,
    DensitySettings,
    labels_of_probe,
    measure_density,
    modality_labels,
    pooled_labels,
)
from layersight.geometry.graph_store import write_graphs
from layersight.geometry.neighbours import nearest_neighbours
from layersight.storage.tables import read_table

pytest.importorskip("dadapy")

IDS = np.array([f"item-{i:03d}" for i in range(260)])
KIND = {item: ("cat", "dog", "bird")[i % 3] for i, item in enumerate(IDS.tolist())}


@pytest.fixture
def graphs(tmp_path):
    """One stream, with a layer that has one vector only."""
    clouds = [np.ones((260, 12)), clustered(), with_duplicates()]
    folder = tmp_path / "graphs"
    write_graphs(
        lambda layer, stream: (IDS, clouds[layer]), subject="base", probe="concepts",
        streams=["last"], layers=[0, 1, 2], out=folder, k=40,
    )  # fmt: skip
    return folder


def measured(folder, tmp_path, labels, **settings):
    paths = [tmp_path / name for name in ("out.parquet", "merges.parquet", "peaks.parquet")]
    measure_density(
        subject="base", graphs={"concepts": folder}, labels=labels, streams=["mean", "last"],
        settings=DensitySettings(**{"k": 8, "z": 0.5, "resamples": 3, **settings}), seed=0,
        out=paths[0], merges_out=paths[1], peaks_out=paths[2],
    )  # fmt: skip
    schemas = (DENSITY_PEAKS, DENSITY_MERGES, DENSITY_PEAK_LIST)
    return [read_table(p, s).to_pandas() for p, s in zip(paths, schemas, strict=True)]


def test_stored_graphs_become_three_tables(graphs, tmp_path, capsys):
    found, merges, peaks = measured(graphs, tmp_path, {"concepts": {"kind": KIND}})
    table = nearest_neighbours(clustered(), 40)
    expected = density_peaks(table.indices, table.distances, k=8, z=0.5)
    rows = found.query("layer == 1").set_index("metric")
    assert rows["value"]["peaks"] == len(expected.peaks) > 1
    assert rows["value"]["core_fraction"] == expected.core_fraction
    assert rows["labels"]["ari"] == "kind"
    assert np.count_nonzero(merges["layer"] == 1) == len(expected.peaks) - 1
    listed = peaks.query("layer == 1")
    assert listed["item_id"].tolist() == IDS[expected.peaks].tolist()
    assert set(found.query("layer == 2")["n"]) == {239}
    one_vector = found.query("layer == 0")
    assert one_vector["value"].isna().all() and set(one_vector["n"]) == {1}
    assert "undefined (NaN): density peaks of base on concepts: last: layers 0, 1 to 1 usable" in (
        capsys.readouterr().err
    )


def test_a_probe_set_without_labels_has_peaks_and_no_agreement(graphs, tmp_path):
    found, merges, peaks = measured(graphs, tmp_path, {})
    assert set(found["metric"]) == {"peaks", "core_fraction", "dimension"}
    assert len(merges) > 0 and len(peaks) == 0


def test_narrow_graphs_and_items_without_a_label_are_named_with_their_folder(graphs, tmp_path):
    with pytest.raises(
        DataError, match=r"graphs: stream 'last', layer 1: the graph keeps 40 .* 64"
    ):
        measured(graphs, tmp_path, {}, k=16)
    with pytest.raises(DataError, match=r"graphs: stream 'last', layer 0: .* no 'kind'"):
        measured(graphs, tmp_path, {"concepts": {"kind": {}}})


def test_labels_are_the_columns_that_a_table_has(tmp_path):
    table = tmp_path / "probe.parquet"
    pd.DataFrame({"item_id": ["a", "b"], "kind": ["cat", "dog"], "answer": ["x", "y"]}).to_parquet(
        table
    )
    assert labels_of_probe(table) == {
        "kind": {"a": "cat", "b": "dog"}, "answer": {"a": "x", "b": "y"}
    }  # fmt: skip
    with pytest.raises(DataError, match=r"none\.parquet"):
        labels_of_probe(tmp_path / "none.parquet")


def test_pooled_clouds_are_labelled_by_modality_and_as_their_items():
    ids = ["image:a", "text:a", "image:b:1"]
    assert modality_labels(ids) == {"image:a": "image", "text:a": "text", "image:b:1": "image"}
    found = pooled_labels({"kind": {"a": "cat", "b:1": "dog"}}, ids)
    assert found["kind"] == {"image:a": "cat", "text:a": "cat", "image:b:1": "dog"}
    assert found["modality"] == modality_labels(ids)
    with pytest.raises(DataError, match="'a'"):
        modality_labels(["a"])
    with pytest.raises(DataError, match="1 items have no kind .*'b:1'"):
        pooled_labels({"kind": {"a": "cat"}}, ids)


def test_modality_is_what_separates_two_far_clouds(tmp_path):
    x = np.vstack([gaussian(), gaussian() + 30])
    ids = np.array([f"{side}:{item}" for side in ("image", "text") for item in IDS])
    write_graphs(
        lambda layer, stream: (ids, x), subject="base", probe="pooled", streams=["last"],
        layers=[0], out=tmp_path / "pooled", k=64,
    )  # fmt: skip
    labels = {"concepts": {"modality": modality_labels(ids.tolist())}}
    found, _, peaks = measured(tmp_path / "pooled", tmp_path, labels, k=16, z=1.65)
    values = found.set_index("metric")["value"]
    assert values["peaks"] == 2
    assert values["ari"] == values["homogeneity"] == values["completeness"] == 1
    assert sorted(peaks["label"]) == ["image", "text"]


def test_settings_that_cannot_be_are_refused():
    for settings in ({"k": 1}, {"z": -1}, {"resamples": 0}, {"fraction": 1}, {"level": 0}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            DensitySettings(**settings)
