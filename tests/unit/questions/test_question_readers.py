"""Questions in the forms in which they are published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layersight.errors import DataError
from layersight.questions.cocoqa import read_cocoqa
from layersight.questions.items import Item
from layersight.questions.jsonl import read_jsonl
from layersight.questions.parquet import read_mmlu, read_scienceqa, scienceqa_pictures

OPEN = {
    "id": 7, "question": "What is on the table?", "answers": ["a cup", "cup"], "kind": "object",
    "image": "kitchen/1.jpg", "captions": ["A cup on a table."],
}  # fmt: skip
CHOICE = {"id": "b", "question": "What do plants breathe?", "choices": ["iron", "air"], "answer": 1}


def lines(path: Path, *entries: object) -> Path:
    path.write_text("\n".join(json.dumps(entry) for entry in entries) + "\n\n", encoding="utf-8")
    return path


def test_a_line_of_json_is_an_item_with_a_free_answer_or_with_choices(tmp_path):
    free, chosen = read_jsonl(lines(tmp_path / "q.jsonl", OPEN, CHOICE))
    assert free == Item(
        "7", "What is on the table?", ("a cup", "cup"), (), "object", "kitchen/1.jpg",
        ("A cup on a table.",),
    )  # fmt: skip
    assert (chosen.answers, chosen.choices, chosen.right) == (("air",), ("iron", "air"), 1)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (CHOICE | {"answer": 2}, "answer is 2; expected the index of one of its 2 choices, 0 to 1"),
        (CHOICE | {"answer": "air"}, "answer is 'air'; expected the index"),
        (CHOICE | {"answer": True}, "answer is True; expected the index"),
        (CHOICE | {"answers": ["air"]}, 'needs either "answers", or "choices" and "answer"'),
        ({"id": 1, "question": "Why?"}, 'needs either "answers", or "choices" and "answer"'),
        (OPEN | {"picture": "x"}, "has the unknown key 'picture'"),
        (OPEN | {"answers": "cup"}, '"answers" must be a list of texts, not "cup"'),
        (OPEN | {"image": ["a"]}, '"image" must be a text'),
        (OPEN | {"id": None}, '"id" must be a text or a whole number'),
        ([1], "is [1]; expected"),
    ],
)
def test_a_line_that_is_no_item_is_named_with_what_would_be_right(tmp_path, entry, message):
    path = lines(tmp_path / "q.jsonl", OPEN, entry)
    with pytest.raises(DataError) as error:
        list(read_jsonl(path))
    assert str(error.value).startswith(f"{path}: line 2: ") and message in str(error.value)


def test_a_line_that_is_no_json_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"id": 1')
    with pytest.raises(DataError, match="line 1: is no JSON"):
        list(read_jsonl(tmp_path / "q.jsonl"))
    with pytest.raises(DataError, match="no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def mmlu(path: Path, **changes: object) -> Path:
    columns = {
        "question": ["Find the degree.", "What is it?"],
        "subject": ["abstract_algebra", "anatomy"],
        "choices": [["0", "4", "2", "6"], ["a", "b", "c", "d"]],
        "answer": [1, 3],
    }
    pq.write_table(pa.table({k: v for k, v in (columns | changes).items() if v}), path)
    return path


def test_mmlu_has_its_subject_as_kind_and_the_index_as_the_right_choice(tmp_path):
    first, second = read_mmlu([mmlu(tmp_path / "test.parquet")])
    assert (first.kind, first.choices, first.right) == ("abstract_algebra", ("0", "4", "2", "6"), 1)
    assert (first.item_id, second.item_id, second.answers) == ("00000", "00001", ("d",))


def test_an_index_beyond_the_choices_and_a_missing_column_are_named(tmp_path):
    path = mmlu(tmp_path / "test.parquet", answer=[1, 4])
    with pytest.raises(DataError, match=r"row 1: answer is 4; expected the index .* 0 to 3"):
        list(read_mmlu([path]))
    with pytest.raises(DataError, match="has no column subject"):
        list(read_mmlu([mmlu(tmp_path / "other.parquet", subject=None)]))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        list(read_mmlu([tmp_path / "bad.parquet"]))


def test_scienceqa_has_its_hint_before_the_question_and_pictures_in_its_rows(tmp_path):
    rows = {
        "image": [None, {"bytes": b"png", "path": None}],
        "question": ["Which is it?", "What is shown?"],
        "choices": [["West Virginia", "Ohio"], ["a", "b", "c"]],
        "answer": pa.array([0, 2], pa.int8()),
        "hint": ["Look at the map.", ""],
        "topic": ["geography", "physics"],
    }
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table(rows), path)
    words, shown = read_scienceqa([path])
    assert words.question == "Look at the map.\nWhich is it?" and words.image_id is None
    assert (shown.image_id, shown.right, shown.kind) == ("00001", 2, "physics")
    assert list(scienceqa_pictures([path], {"00001"})) == [("00001", b"png")]


def cocoqa(folder: Path, **changes: str) -> tuple[Path, Path]:
    files = {
        "questions": "what is in the bowl\nhow many cats are there\nwhere is the bus\n",
        "answers": "fruit\ntwo\nstreet\n",
        "img_ids": "9\n9\n30\n",
        "types": "0\n1\n3\n",
    }
    (folder / "test").mkdir(parents=True)
    for name, text in (files | changes).items():
        (folder / "test" / f"{name}.txt").write_text(text)
    images = [
        {
            "filepath": "val2014", "filename": f"COCO_val2014_{number:012d}.jpg", "split": split,
            "cocoid": number, "sentids": [1, 2], "imgid": number,
            "sentences": [{"raw": f"Caption {number}. \n", "tokens": ["caption"]},
                          {"raw": "Another one", "tokens": []}],
        }
        for number, split in ((9, "restval"), (30, "val"), (31, "test"))
    ]  # fmt: skip
    path = folder / "dataset_coco.json"
    path.write_text(json.dumps({"images": images, "dataset": "coco"}))
    return folder / "test", path


def test_cocoqa_gives_one_question_a_picture_with_type_place_and_captions(tmp_path):
    files = cocoqa(tmp_path)
    items = list(read_cocoqa(*files, None, np.random.default_rng(0)))
    assert [item.image_id for item in items] == [
        "val2014/COCO_val2014_000000000009.jpg", "val2014/COCO_val2014_000000000030.jpg",
    ]  # fmt: skip
    assert items[1] == Item(
        "30/3", "where is the bus?", ("street",), (), "location", items[1].image_id,
        ("Caption 30.", "Another one"),
    )  # fmt: skip
    drawn = {
        next(read_cocoqa(*files, "restval", np.random.default_rng(seed))).item_id
        for seed in range(20)
    }
    assert drawn == {"9/1", "9/2"}


def test_cocoqa_keeps_the_pictures_of_one_of_karpathys_splits(tmp_path):
    files = cocoqa(tmp_path)
    (item,) = read_cocoqa(*files, "restval", np.random.default_rng(0))
    assert item.kind in ("object", "number")
    with pytest.raises(DataError, match="no picture is of the split 'train'; splits: restval, val"):
        list(read_cocoqa(*files, "train", np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"types": "0\n1\n"}, "files differ in their numbers of lines: questions.txt 3"),
        ({"types": "0\n1\n4\n"}, "types.txt: line 3: '4' is none of 0, 1, 2, 3"),
        ({"img_ids": "9\n9\nx\n"}, "img_ids.txt: line 3: 'x' is no number"),
        ({"img_ids": "9\n9\n77\n"}, "has no captions of 1 pictures of .*, such as 77"),
    ],
)
def test_what_is_wrong_in_cocoqa_is_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        list(read_cocoqa(*cocoqa(tmp_path, **change), None, np.random.default_rng(0)))


def test_a_file_of_cocoqa_that_is_missing_is_named(tmp_path):
    folder, captions = cocoqa(tmp_path)
    with pytest.raises(DataError, match=r"none\.json: no such file; expected Karpathy"):
        list(read_cocoqa(folder, tmp_path / "none.json", None, np.random.default_rng(0)))
    captions.write_text('{"images": [{"cocoid": 9}]}')
    with pytest.raises(DataError, match="a picture has no 'filepath'"):
        list(read_cocoqa(folder, captions, None, np.random.default_rng(0)))
    (folder / "answers.txt").unlink()
    with pytest.raises(DataError, match=r"answers\.txt: no such file; COCO-QA has the files"):
        list(read_cocoqa(folder, captions, None, np.random.default_rng(0)))
