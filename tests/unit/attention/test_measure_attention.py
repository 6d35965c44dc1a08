"""From questions to the table of items, undisturbed and killed."""

from __future__ import annotations

import pandas as pd
import pytest
from tests.unit.tuning.killing import Counter, Killed

from layersight.attention import measure
from layersight.attention.items import ITEMS
from layersight.attention.measure import measure_attention
from layersight.errors import DataError
from layersight.storage.manifest import read_manifest
from layersight.storage.tables import read_table

BLOCKS = 4


def test_the_first_items_have_four_numbers_a_block_in_the_order_of_the_table(
    study, subject, write_questions, features, tmp_path
):
    out = tmp_path / "attention/aligned/items.parquet"
    measure_attention(study, subject, write_questions(), features, out)
    frame = read_table(out, ITEMS).to_pandas()
    assert list(dict.fromkeys(frame["item_id"])) == [f"i{index}" for index in range(6)]
    counts = frame.groupby(["item_id", "kind", "bos"])["block"].apply(list)
    assert (counts.map(lambda blocks: blocks == list(range(BLOCKS)))).all()
    assert len(counts) == 6 * 4
    assert (frame["subject"] == "aligned").all()
    assert frame["ratio"].to_numpy() == pytest.approx(frame["image"] / frame["text"])
    everything = frame[(frame["kind"] == "sum") & frame["bos"]]
    assert (everything["image"] + everything["text"]).to_numpy() == pytest.approx(1, abs=1e-5)
    manifest = read_manifest(out.with_name("manifest.json"))
    assert manifest["items"] == 6
    assert manifest["settings"] == {"items": 6, "new_tokens": 3, "batch_size": 2}


def test_batches_do_not_change_an_item(study, subject, write_questions, features, tmp_path):
    frames = []
    for size in (1, 4):
        settings = study.attention.model_copy(update={"batch_size": size})
        out = tmp_path / f"{size}.parquet"
        measure_attention(
            study.model_copy(update={"attention": settings}),
            subject,
            write_questions(),
            features,
            out,
        )
        frames.append(pd.read_parquet(out))
    keys = ["subject", "item_id", "block", "kind", "bos"]
    assert frames[0][keys].equals(frames[1][keys])
    assert frames[0]["ratio"].to_numpy() == pytest.approx(frames[1]["ratio"], rel=1e-4)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_killed_measurement_goes_on_and_ends_in_the_same_bytes(
    study, subject, write_questions, features, tmp_path, monkeypatch, after
):
    counter = Counter(measure.attention_ratio)
    monkeypatch.setattr(measure, "attention_ratio", counter)
    table = write_questions()
    measure_attention(study, subject, table, features, tmp_path / "whole.parquet")
    assert counter.calls == 3
    counter.calls = 0
    counter.die_after(after)
    out, work = tmp_path / "out.parquet", tmp_path / "work"
    with pytest.raises(Killed):
        measure_attention(study, subject, table, features, out, work=work)
    assert not out.exists()
    measure_attention(study, subject, table, features, out, work=work)
    assert counter.calls == 3
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert read_manifest(tmp_path / "manifest.json")["items_from_an_interrupted_job"] == 2 * after


def test_a_question_without_a_picture_is_named(study, subject, write_questions, features, tmp_path):
    table = write_questions(without=4)
    with pytest.raises(DataError, match=r"visual_questions\.parquet: row i4: has no picture"):
        measure_attention(study, subject, table, features, tmp_path / "out.parquet")
    # One that is not among the first items is not asked.
    table = write_questions(without=6)
    measure_attention(study, subject, table, features, tmp_path / "out.parquet")


def test_a_question_that_leaves_no_room_for_the_answer_is_named(
    study, subject, write_questions, features, tmp_path
):
    settings = study.attention.model_copy(update={"new_tokens": 500})
    with pytest.raises(DataError, match=r"row i\d: its \d+ tokens and attention.new_tokens = 500"):
        measure_attention(
            study.model_copy(update={"attention": settings}),
            subject,
            write_questions(),
            features,
            tmp_path / "out.parquet",
        )
