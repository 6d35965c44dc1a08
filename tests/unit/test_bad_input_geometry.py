"""Vectors that cannot be measured: refused with their place, or undefined and said to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from layersight.activations.store import ActivationWriter
from layersight.data.schemas import PROBE
from layersight.errors import DataError
from layersight.geometry.graph import neighbour_graph
from layersight.geometry.graph_stages import find_neighbours, measure_dimension
from layersight.geometry.graph_tables import DimensionSettings, dimension_table
from layersight.geometry.measure import GeometrySettings, change_table
from layersight.geometry.stages import measure_change, measure_cross_modal
from layersight.storage.tables import write_table
from layersight.study import PROBES

ITEMS = [f"item-{index:02d}" for index in range(24)]
SETTINGS = GeometrySettings(k=3, resamples=100)
DIMENSION = DimensionSettings(gride_range_max=8, decimated_fewest=10, resamples=20)


def vectors(seed: int = 0, items: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(items, 5)).astype(np.float32)


def store(folder: Path, values: np.ndarray, ids: list[str] | None = None) -> Path:
    """Write the stream `last` of layers 0 and 1 as a dump has it."""
    ids = ITEMS[: len(values)] if ids is None else ids
    shape = {"layers": 2, "width": values.shape[1], "dtype": "float32", "rows_per_part": 64}
    writer = ActivationWriter(folder, **shape)  # type: ignore[arg-type]
    writer.add(ids, "last", [None] * len(ids), np.stack([values, values]))
    writer.flush()
    return folder


def graphs_of(
    folder: Path, probe: str = "pair_images", streams: tuple[str, ...] = ("last",)
) -> Path:
    """Write the neighbour graphs beside the activations, as the rule does; return their folder."""
    out = folder / "graphs"
    find_neighbours(
        subject="full/seed-0", probe=probe, activations=folder / probe, streams=["last"],
        out=out / probe, k=128,
    )  # fmt: skip
    return out


def measured(smoke, folder: Path, reference: Path | None = None) -> pd.DataFrame:
    out = folder / "table.parquet"
    graphs = graphs_of(folder)
    if reference is None:
        measure_dimension(
            subject="full/seed-0", graphs={"pair_images": graphs / "pair_images"},
            streams=["last"], settings=DIMENSION, seed=0, dimension_out=out,
        )  # fmt: skip
    else:
        measure_change(
            smoke, subject="full/seed-0", activations=folder, probes=["pair_images"],
            reference="base", reference_activations=reference, graphs=graphs,
            reference_graphs=graphs_of(reference), out=out,
        )  # fmt: skip
    return pd.read_parquet(out)


def overlap(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["metric"] == "overlap"]


def table(x: np.ndarray, y: np.ndarray | None = None, metric: str = "euclidean") -> pd.DataFrame:
    """Change from x to y, or the dimension of x alone."""

    def read(values):
        return lambda layer, stream: (np.array(ITEMS[: len(values)]), values)

    def near(values):
        return lambda *where: neighbour_graph(*read(values)(*where), 30, metric=metric)

    where = {"probe": "p", "streams": ["last"], "layers": [0], "seed": 1}
    if y is None:
        return dimension_table(near(x), subject="s", settings=DIMENSION, **where)
    return change_table(
        read(x), read(y), reference_graph=near(x), subject_graph=near(y), subject="s",
        reference="r", settings=replace(SETTINGS, metric=metric), **where,
    )  # fmt: skip


def test_the_smallest_cloud_is_three_times_the_neighbours():
    for items, defined in ((8, False), (9, True)):
        frame = table(vectors(0, items), vectors(1, items))
        assert overlap(frame)["value"].notna().item() is defined
        assert overlap(frame)["n"].item() == items


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_constant_vectors_are_reported_as_copies_and_have_no_value(metric):
    same = np.ones((24, 5), np.float32)
    frame = table(same, metric=metric)
    assert frame["dimension"].isna().all()
    assert (frame["n"] == 1).all() and (frame["copies"] == 23).all()
    frame = table(same, vectors(), metric=metric)
    assert np.isnan(overlap(frame)["value"].item()) and overlap(frame)["n"].item() == 1


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_copies_are_dropped_and_counted_and_change_nothing(metric):
    some = vectors(0, 20)
    with_copies = np.concatenate([some, some[:4]])
    frame = table(with_copies, metric=metric)
    assert (frame["copies"] == 4).all() and (frame["n"] == 20).all()
    alone = table(some, metric=metric)
    assert np.array_equal(frame["dimension"], alone["dimension"], equal_nan=True)
    assert frame["dimension"].notna().any()


def test_a_zero_vector_is_left_out_under_the_cosine_and_counted_under_the_euclidean():
    some = vectors()
    some[7] = 0
    assert (table(some)["n"] == 24).all()
    frame = table(some, metric="cosine")
    assert (frame["n"] == 23).all() and (frame["zeros"] == 1).all()
    assert frame["dimension"].notna().any()
    assert overlap(table(some, vectors(1), metric="cosine"))["n"].item() == 23


def test_undefined_rows_are_said_aloud(smoke, tmp_path, capsys):
    store(tmp_path / "pair_images", np.ones((24, 5), np.float32))
    frame = measured(smoke, tmp_path)
    assert frame["dimension"].isna().all()
    said = capsys.readouterr().err
    assert "undefined (NaN): full/seed-0 on pair_images: last two_nn: layers 0, 1, 1 to 1" in said


def test_defined_rows_are_not_said(smoke, tmp_path, capsys):
    store(tmp_path / "pair_images", vectors())
    frame = measured(smoke, tmp_path)
    assert frame.query("estimator != 'two_nn_decimated'")["dimension"].notna().all()
    assert "undefined" not in capsys.readouterr().err


def test_graphs_that_are_too_narrow_give_nan_and_the_reason(smoke, tmp_path, capsys):
    some, other = vectors(0, 40), vectors(1, 40)
    # Copies in the reference are struck from the lists of the subject.
    other[20:30] = other[0]
    items = [f"item-{index}" for index in range(40)]
    for folder, values in (("full", some), ("base", other)):
        store(tmp_path / folder / "pair_images", values, items)
        find_neighbours(
            subject=folder, probe="pair_images", activations=tmp_path / folder / "pair_images",
            streams=["last"], out=tmp_path / folder / "graphs/pair_images", k=10,
        )  # fmt: skip
    geometry = smoke.geometry.model_copy(update={"k": 10})
    measure_change(
        smoke.model_copy(update={"geometry": geometry}), subject="full", reference="base",
        activations=tmp_path / "full", reference_activations=tmp_path / "base",
        graphs=tmp_path / "full/graphs", reference_graphs=tmp_path / "base/graphs",
        probes=["pair_images"], out=tmp_path / "table.parquet",
    )  # fmt: skip
    frame = overlap(pd.read_parquet(tmp_path / "table.parquet"))
    assert frame["value"].isna().all() and (frame["n"] == 30).all()
    said = capsys.readouterr().err
    assert "overlap: layers 0, 1: of an item's stored neighbours fewer than k = 10" in said
    assert "raise geometry.neighbours" in said


def test_graphs_of_other_activations_are_refused(smoke, tmp_path):
    store(tmp_path / "base/pair_images", vectors())
    store(tmp_path / "full/pair_images", vectors(1))
    measured(smoke, tmp_path / "full", tmp_path / "base")
    graphs = tmp_path / "full/graphs"
    store(tmp_path / "later/full/pair_images", vectors(1), ITEMS[::-1])
    store(tmp_path / "later/base/pair_images", vectors(), ITEMS[::-1])
    with pytest.raises(DataError, match="holds other items than the activations"):
        measure_change(
            smoke, subject="full", reference="base", activations=tmp_path / "later/full",
            reference_activations=tmp_path / "later/base", graphs=graphs,
            reference_graphs=graphs, probes=["pair_images"], out=tmp_path / "table.parquet",
        )  # fmt: skip


def refusal(smoke, folder: Path, reference: Path | None = None) -> str:
    with pytest.raises(DataError) as error:
        measured(smoke, folder, reference)
    assert str(folder / "pair_images") in str(error.value)
    assert not (folder / "table.parquet").exists()
    return str(error.value)


def test_subjects_read_on_different_items_are_refused(smoke, tmp_path):
    store(tmp_path / "base/pair_images", vectors())
    store(tmp_path / "full/pair_images", vectors(), [*ITEMS[:-1], "other"])
    told = refusal(smoke, tmp_path / "full", tmp_path / "base")
    assert "1 only on the first, 1 only on the second (for example 'item-23')" in told


def test_an_item_stored_twice_is_refused(smoke, tmp_path):
    store(tmp_path / "base/pair_images", vectors())
    store(tmp_path / "full/pair_images", vectors(), [*ITEMS[:-1], ITEMS[0]])
    assert "an item id occurs twice" in refusal(smoke, tmp_path / "full", tmp_path / "base")


def test_models_of_another_width_are_refused(smoke, tmp_path):
    store(tmp_path / "base/pair_images", vectors())
    store(tmp_path / "full/pair_images", vectors()[:, :4])
    told = refusal(smoke, tmp_path / "full", tmp_path / "base")
    assert "vectors of 'base' have 5 dimensions, those of 'full/seed-0' 4" in told


def probe_table(folder: Path, ids: list[str]) -> Path:
    row = {"concept": "c", "kind": "round", "subgroup": "s", "image_id": None}
    said = [{"from": "human", "value": "star"}]
    rows = [row | {"item_id": item, "conversations": said} for item in ids]
    write_table(folder / "probe.parquet", rows, PROBE)
    return folder / "probe.parquet"


def cross_modal(study, folder: Path, probe: Path) -> pd.DataFrame:
    streams = study.activations.model_copy(update={"streams": ["last"]})
    out = folder / "table.parquet"
    for name in PROBES:
        graphs_of(folder, name)
    measure_cross_modal(
        study.model_copy(update={"activations": streams}),
        subject="full/seed-0",
        activations=folder,
        graphs=folder / "graphs",
        probes=PROBES,
        probe=probe,
        out=out,
    )
    return pd.read_parquet(out)


@pytest.mark.parametrize("unpaired", ["pair_texts", "text_questions"])
def test_probe_sets_whose_items_do_not_pair_are_refused(smoke, tmp_path, unpaired):
    for name in ("pair_images", "pair_texts", "visual_questions", "text_questions"):
        store(tmp_path / name, vectors(), [*ITEMS[:-1], "other"] if name == unpaired else ITEMS)
    with pytest.raises(DataError) as error:
        cross_modal(smoke, tmp_path, probe_table(tmp_path, ITEMS))
    assert str(tmp_path / unpaired) in str(error.value)
    assert "the two sides hold different items" in str(error.value)
    assert not (tmp_path / "table.parquet").exists()


def test_an_item_without_a_kind_is_named(smoke, tmp_path):
    for name in ("pair_images", "pair_texts", "visual_questions", "text_questions"):
        store(tmp_path / name, vectors())
    with pytest.raises(DataError, match="1 of 24 items have no group .for example 'item-23'"):
        cross_modal(smoke, tmp_path, probe_table(tmp_path, ITEMS[:-1]))
    assert len(cross_modal(smoke, tmp_path, probe_table(tmp_path, ITEMS)))
