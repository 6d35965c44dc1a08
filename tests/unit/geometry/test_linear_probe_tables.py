import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layersight.activations.store import ActivationWriter
from layersight.data.schemas import PROBE
from layersight.errors import DataError
from layersight.geometry.linear_probe_tables import (
    LINEAR_PROBES,
    LinearProbeSettings,
    linear_probe_table,
    measure_linear_probes,
)
from layersight.geometry.measure import VectorsError
from layersight.storage.tables import read_table

N, D = 60, 70
IDS = np.array([f"item-{i:03d}" for i in range(N)])
LABELS = {item: "abc"[i % 3] for i, item in enumerate(IDS.tolist())}
TYPES = {item: f"type-{i % 6}" for i, item in enumerate(IDS.tolist())}
SETTINGS = LinearProbeSettings(strengths=(1e-2, 1.0), folds=4, resamples=50)


def vectors(layer, noise):
    """Layer 0 says nothing, later ones the label."""
    rng = np.random.default_rng([layer, noise])
    centres = np.random.default_rng(layer).standard_normal((3, D)) * (layer > 0)
    return (2 * centres[np.arange(N) % 3] + rng.standard_normal((N, D))).astype(np.float32)


def reader(noise, order=slice(None)):
    return lambda layer, stream: (IDS[order], vectors(layer, noise)[order])


IMAGE, TEXT = reader(1), reader(2)


def table_of(image=IMAGE, text=TEXT, labels=LABELS, types=TYPES, layers=(0, 1)):
    return linear_probe_table(
        image, text, subject="base", stream_image="image_mean", stream_text="text_mean",
        labels=labels, types=types, layers=layers, settings=SETTINGS, seed=3,
    )  # fmt: skip


def value(table, metric, train="image", test="text", layer=1, scaling="own"):
    rows = table.query(
        "metric == @metric and train == @train and test == @test and layer == @layer "
        "and scaling == @scaling"
    )
    assert len(rows) == 1
    return rows.iloc[0]


def test_the_table_has_every_direction_and_finds_the_layer_that_tells_labels_apart():
    table = table_of()
    assert set(table.columns) == set(LINEAR_PROBES.names) - {"pair"}
    assert len(table) == 2 * 4 * (2 + 2 * 2)
    assert (table["n"] == N).all() and (table["classes"] == 3).all()
    for train, test in [("image", "image"), ("image", "text"), ("text", "image"), ("text", "text")]:
        assert value(table, "accuracy", train, test)["value"] > 0.9
        low = value(table, "accuracy", train, test, layer=0)
        assert low["value"] < 1 / 3 + 5 * np.sqrt(2 / 9 / N)
        assert low["low"] < low["value"] < low["high"]
        assert value(table, "majority", train, test)["value"] <= 1 / 3
    assert table["strength"].isin([1e-2, 1.0]).sum() + table["strength"].eq(0.505).sum() == len(
        table
    )


def test_selectivity_is_accuracy_minus_control():
    table = table_of()
    for test in ("image", "text"):
        parts = [value(table, name, test=test)["value"] for name in ("accuracy", "control")]
        assert value(table, "selectivity", test=test)["value"] == pytest.approx(parts[0] - parts[1])


def test_the_order_of_the_files_does_not_matter_and_layers_do_not_depend_on_each_other():
    shuffled = np.random.default_rng(0).permutation(N)
    expected = table_of()
    pd.testing.assert_frame_equal(table_of(reader(1, shuffled), reader(2)), expected)
    alone = table_of(layers=[1])
    pd.testing.assert_frame_equal(alone, expected[expected["layer"] == 1].reset_index(drop=True))


def test_classes_with_fewer_items_than_folds_are_left_out():
    rare = LABELS | {IDS[0]: "d", IDS[1]: "d", IDS[2]: "d"}
    table = table_of(labels=rare)
    assert (table["n"] == N - 3).all() and (table["classes"] == 3).all()
    all_rare = {item: item for item in IDS.tolist()}
    undefined = table_of(labels=all_rare)
    assert undefined[["value", "low", "high"]].isna().all(axis=None)
    assert len(undefined) == len(table)


def test_items_without_a_label_or_of_another_width_are_refused():
    with pytest.raises(VectorsError, match="59 of 60 items have no group"):
        table_of(labels={IDS[0]: "a"})
    with pytest.raises(VectorsError, match="70 and 1 dimensions"):
        table_of(text=lambda *_: (IDS, np.ones((N, 1), np.float32)))


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="folds is 1"):
        LinearProbeSettings(folds=1)
    with pytest.raises(ValueError, match="C above 0"):
        LinearProbeSettings(strengths=(0.0,))


def stored(folder, noise):
    writer = ActivationWriter(folder, layers=2, width=D, dtype="float32", rows_per_part=50)
    values = np.stack([vectors(layer, noise) for layer in (0, 1)])
    writer.add(IDS.tolist(), "last", [0] * N, values)
    writer.flush()


def test_stored_activations_become_a_file(tmp_path):
    stored(tmp_path / "acts/pair_images", 1)
    stored(tmp_path / "acts/pair_texts", 2)
    rows = [
        {
            "item_id": item,
            "concept": item,
            "kind": LABELS[item],
            "subgroup": TYPES[item],
            "image_id": None,
            "conversations": [{"from": "human", "value": item}],
        }
        for item in IDS.tolist()
    ]
    probe = tmp_path / "probe.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=PROBE), probe)
    settings = {
        "subject": "base",
        "activations": tmp_path / "acts",
        "pairs": [("concepts", "pair_images", "pair_texts", "last", "last")],
        "probe": probe,
        "settings": SETTINGS,
        "seed": 1,
    }
    measure_linear_probes(**settings, out=tmp_path / "out.parquet")
    table = read_table(tmp_path / "out.parquet", LINEAR_PROBES).to_pandas()
    assert value(table, "accuracy")["value"] > 0.9
    assert (table["pair"] == "concepts").all()
    with pytest.raises(DataError, match="answer"):
        measure_linear_probes(**settings, label="answer", out=tmp_path / "other.parquet")
    measure_linear_probes(**settings, every=2, out=tmp_path / "fewer.parquet")
    fewer = read_table(tmp_path / "fewer.parquet", LINEAR_PROBES).to_pandas()
    pd.testing.assert_frame_equal(fewer, table[table["layer"] == 0].reset_index(drop=True))
