"""Overlaps from files: graphs and probe tables in, tables out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layersight.data.schemas import PROBE
from layersight.errors import DataError
from layersight.geometry.graph_store import write_graphs
from layersight.geometry.overlap_stages import labels_of_probe, measure_overlaps
from layersight.geometry.overlap_tables import OverlapSettings
from layersight.geometry.pairs import pairs_of, pools_of
from layersight.storage.tables import read_frame, write_table

N = 60
IDS = np.array([f"item-{i:03d}" for i in range(N)])
PROBES = ("visual_questions", "text_questions", "pair_images", "pair_texts")
SETTINGS = OverlapSettings(ks=(1, 5, 19), class_fractions=(0.5,), resamples=50)


def vectors(subject: str, probe: str, stream: str, layer: int) -> np.ndarray:
    """Every subject, probe set and stream is noise around the same cloud."""
    shared = np.random.default_rng(0).standard_normal((N, 8))
    seed = [len(subject), PROBES.index(probe), len(stream), layer]
    return (shared + 0.4 * np.random.default_rng(seed).standard_normal((N, 8))).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("overlaps")
    for subject in ("aligned", "full"):
        for probe in PROBES:
            write_graphs(
                lambda layer, stream, s=subject, p=probe: (IDS, vectors(s, p, stream, layer)),
                subject=subject,
                probe=probe,
                streams=["last", "image_mean" if "text" not in probe else "text_mean"],
                layers=[0, 1, 2],
                out=root / subject / probe,
                k=59,
            )
    for probe in PROBES:
        rows = [
            {
                "item_id": item,
                "concept": item,
                "kind": "abc"[i % 3],
                "subgroup": f"s{i % 6}",
                "image_id": None,
                "conversations": [{"from": "human", "value": "x"}],
            }
            for i, item in enumerate(IDS.tolist())
        ]
        write_table(root / "probes" / f"{probe}.parquet", rows, PROBE)
    return root


def measured(root: Path, out: Path, subject: str, *, reference: bool):
    measure_overlaps(
        subject=subject,
        reference="aligned",
        graphs={probe: root / subject / probe for probe in PROBES},
        reference_graphs={probe: root / "aligned" / probe for probe in PROBES if reference},
        probes={probe: root / "probes" / f"{probe}.parquet" for probe in PROBES},
        streams=["last", "image_mean", "text_mean"],
        settings=SETTINGS,
        seed=3,
        out=out / "overlap.parquet",
        labels_out=out / "labels.parquet",
    )
    return read_frame(out / "overlap.parquet"), read_frame(out / "labels.parquet")


def test_all_comparisons_are_there_and_equal_dadapys(folder, tmp_path):
    from dadapy import Data

    overlap, _ = measured(folder, tmp_path, "full", reference=True)
    counts = overlap.groupby("comparison").size().to_dict()
    ks, layers = 3, 3
    assert counts == {
        "tuned_base": 8 * layers * ks,
        "consecutive": 8 * (layers - 1) * ks,
        "image_text": 3 * layers * ks,
    }
    sides = {
        "tuned_base": [("full", "pair_images", "last", 1), ("aligned", "pair_images", "last", 1)],
        "consecutive": [
            ("full", "pair_texts", "text_mean", 1), ("full", "pair_texts", "text_mean", 2),
        ],
        "image_text": [
            ("full", "pair_images", "image_mean", 2), ("full", "pair_texts", "text_mean", 2),
        ],
    }  # fmt: skip
    for comparison, (one, other) in sides.items():
        row = overlap[
            (overlap["comparison"] == comparison)
            & (overlap["reference"] == other[0])
            & (overlap["probe"] == one[1])
            & (overlap["reference_probe"] == other[1])
            & (overlap["stream"] == one[2])
            & (overlap["layer"] == one[3])
            & (overlap["reference_layer"] == other[3])
            & (overlap["k"] == 5)
        ]
        assert len(row) == 1, comparison
        data = Data(vectors(*one).astype(float))
        data.compute_distances(maxk=N - 1)
        expected = data.return_data_overlap(coordinates=vectors(*other).astype(float), k=5)
        assert row["value"].iloc[0] == pytest.approx(expected, rel=1e-9), comparison


def test_without_a_reference_nothing_is_compared_with_one(folder, tmp_path):
    overlap, _ = measured(folder, tmp_path, "aligned", reference=False)
    assert set(overlap["comparison"]) == {"consecutive", "image_text"}


def test_labels_are_those_of_the_probe_table(folder, tmp_path):
    _, labels = measured(folder, tmp_path, "full", reference=True)
    assert set(labels["label"]) == {"kind", "subgroup"}
    assert labels.groupby("label")["classes"].unique().map(list).to_dict() == {
        "kind": [3],
        "subgroup": [6],
    }
    assert labels_of_probe(folder / "probes/pair_texts.parquet")["kind"]["item-004"] == "b"


def test_graphs_that_are_missing_are_named(folder, tmp_path):
    with pytest.raises(DataError, match=r"nowhere/full/visual_questions: no neighbour graphs here"):
        measured(folder.parent / "nowhere", tmp_path, "full", reference=False)


def test_pairs_and_pools_are_those_whose_parts_are_all_there():
    streams = ["last", "image_mean", "text_mean"]
    assert [pair[0] for pair in pairs_of(PROBES, streams)] == ["concepts", "concepts", "questions"]
    assert pairs_of(PROBES[:2], ["image_mean", "text_mean"]) == []
    pools = pools_of(PROBES, streams)
    assert [(pool.name, list(pool.streams)) for pool in pools] == [
        ("concepts", ["means", "last"]),
        ("questions", ["last"]),
    ]
    assert pools[0].streams["means"] == ("image_mean", "text_mean")
