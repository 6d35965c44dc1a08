"""LMAR over items and blocks, against means written out."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from layersight.attention.items import ITEMS, SUMMARY, TABLE
from layersight.attention.summary import attention_table
from layersight.errors import DataError
from layersight.storage.tables import read_table, write_table

NAN = float("nan")


def items(subject, ratios):
    """Rows of `ITEMS` from `(items, blocks)` ratios, doubled for sums, halved with `bos`."""
    return [
        {
            "subject": subject,
            "item_id": f"i{item}",
            "block": block,
            "kind": kind,
            "bos": bos,
            "ratio": float(value * (2 if kind == "sum" else 1) / (2 if bos else 1)),
            "image": 0.1,
            "text": 0.1,
        }
        for item, row in enumerate(ratios)
        for block, value in enumerate(row)
        for kind in ("mean", "sum")
        for bos in (False, True)
    ]


@pytest.fixture
def summarise(tmp_path):
    def run(tables, manifests=None):
        paths = []
        for number, rows in enumerate(tables):
            paths.append(tmp_path / f"{number}.parquet")
            write_table(paths[-1], rows, ITEMS)
        out, summary = tmp_path / "attention.parquet", tmp_path / "attention_summary.parquet"
        attention_table(
            paths, out, summary, manifests=manifests or {}, resamples=300, level=0.9, seed=1
        )
        return read_table(out, TABLE).to_pandas(), read_table(summary, SUMMARY).to_pandas()

    return run


def test_lmar_is_the_mean_over_items_and_its_summary_the_mean_over_blocks(summarise):
    ratios = np.array([[0.2, 1.0, 3.0], [0.4, 2.0, 5.0]])
    curves, means = summarise([items("aligned", ratios)])
    main = curves[(curves["kind"] == "mean") & ~curves["bos"]]
    assert main["value"].tolist() == pytest.approx([0.3, 1.5, 4.0])
    assert main["low"].tolist() == pytest.approx([0.2, 1.0, 3.0])
    assert main["high"].tolist() == pytest.approx([0.4, 2.0, 5.0])
    assert main["n"].tolist() == [2, 2, 2]
    row = means[(means["kind"] == "mean") & ~means["bos"]].iloc[0]
    assert row["value"] == pytest.approx(5.8 / 3)
    assert row["distance"] == pytest.approx(5.8 / 3 - 1)
    # The draws are those of the blocks: the mean over blocks is lowest where all are.
    assert [row["low"], row["high"]] == pytest.approx([4.2 / 3, 7.4 / 3])
    with_first = means[(means["kind"] == "mean") & means["bos"]].iloc[0]
    assert with_first["value"] == pytest.approx(2.9 / 3)
    assert with_first["distance"] == pytest.approx(0.1 / 3)
    assert with_first["distance_low"] >= 0
    assert len(means) == 4


def test_subjects_are_resampled_alike_and_stay_what_they_are_without_the_others(summarise):
    ratios = np.random.default_rng(0).uniform(0.1, 3, (9, 2))
    one = summarise([items("aligned", ratios)])
    two = summarise([items("aligned", ratios), items("full/seed-0", ratios)])
    for alone, both in zip(one, two, strict=True):
        assert alone.equals(both[both["subject"] == "aligned"].reset_index(drop=True))
        other = both[both["subject"] == "full/seed-0"].reset_index(drop=True)
        assert alone.drop(columns="subject").equals(other.drop(columns="subject"))


def test_an_item_without_a_ratio_in_one_block_is_left_out_of_all(summarise):
    curves, _ = summarise([items("aligned", np.array([[1.0, 2.0], [NAN, 9.0], [3.0, 4.0]]))])
    main = curves[(curves["kind"] == "mean") & ~curves["bos"]]
    assert main["value"].tolist() == [2.0, 3.0]
    assert main["n"].tolist() == [2, 2]


def test_a_subject_without_any_ratio_has_rows_without_numbers(summarise):
    curves, means = summarise([items("aligned", np.full((3, 2), NAN))])
    assert len(curves) == 8
    assert curves[["value", "low", "high"]].isna().all(axis=None)
    assert (curves["n"] == 0).all()
    assert means["distance"].isna().all()


def test_trained_parameters_come_from_the_manifests(summarise, tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"trainable_language_model": 12, "trainable_connector": 0}))
    ones = np.ones((2, 1))
    _, means = summarise(
        [items("aligned", ones), items("lora/seed-0", ones)], {"models/aligned": path}
    )
    found = means.groupby("subject")[["trained_language_model", "trained_connector"]].first()
    assert found.loc["aligned"].tolist() == [12, 0]
    assert found.loc["lora/seed-0"].isna().all()


def test_no_subjects_give_empty_tables(summarise):
    curves, means = summarise([])
    assert isinstance(curves, pd.DataFrame)
    assert len(curves) == len(means) == 0


def test_a_subject_or_an_item_that_occurs_twice_is_named(summarise):
    rows = items("aligned", np.ones((2, 1)))
    with pytest.raises(DataError, match=r"1\.parquet: the subject aligned is in another table"):
        summarise([rows, rows])
    with pytest.raises(DataError, match=r"0\.parquet: row i0: occurs twice"):
        summarise([rows + rows[:4]])
