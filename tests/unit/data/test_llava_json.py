"""LLaVA's JSON and its folder of pictures become a table of training conversations."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import ijson
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.conftest import IMAGE_TOKENS

from layersight.data.llava_json import PictureFolder, import_llava
from layersight.data.schemas import INSTRUCT
from layersight.data.streaming import ConversationTable
from layersight.errors import DataError
from layersight.storage.tables import read_table


def talk(*texts: str) -> list[dict[str, str]]:
    return [
        {"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(texts)
    ]


WITH_PICTURE = {
    "id": "000000033471",
    "image": "coco/train/33471.jpg",
    "conversations": talk("What is this?\n<image>", "a bus", "Which colour?", "red"),
}
TEXT_ONLY = {"id": 7, "conversations": talk("Say “hé”.", "hé 😀")}


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "coco/train").mkdir(parents=True)
    Image.new("RGB", (40, 30), (200, 10, 10)).save(folder / "coco/train/33471.jpg")
    Image.new("RGBA", (40, 30), (0, 0, 0, 0)).save(folder / "coco/clear.png")
    return folder


@pytest.fixture
def imported(tmp_path, pictures):
    def call(content: Any) -> Path:
        source = tmp_path / "llava.json"
        source.write_text(content if isinstance(content, str) else json.dumps(content))
        import_llava(source, pictures, tmp_path / "out.parquet")
        return tmp_path / "out.parquet"

    return call


def test_rows_keep_their_words_and_get_names_of_their_own(imported):
    rows = read_table(imported([WITH_PICTURE, TEXT_ONLY, WITH_PICTURE]), INSTRUCT).to_pylist()
    assert [row["item_id"] for row in rows] == ["0/000000033471", "1/7", "2/000000033471"]
    assert [row["image_id"] for row in rows] == ["coco/train/33471.jpg", None, rows[0]["image_id"]]
    assert rows[0]["conversations"] == talk(
        "<image>\nWhat is this?", "a bus", "Which colour?", "red"
    )
    assert rows[1]["conversations"] == TEXT_ONLY["conversations"]


def test_a_marker_alone_stays_alone(imported):
    row = WITH_PICTURE | {"conversations": talk(" <image>\n", "a bus")}
    (found,) = read_table(imported([row]), INSTRUCT).to_pylist()
    assert found["conversations"][0]["value"] == "<image>"


def test_the_table_can_be_trained_on(imported, smoke, tokenizer):
    table = ConversationTable(smoke, imported([WITH_PICTURE, TEXT_ONLY]), tokenizer, IMAGE_TOKENS)
    assert table.pictured().tolist() == [True, False] and table.lengths().min() > 0
    assert table.row(0)[0].input_ids.count(-200) == IMAGE_TOKENS


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (WITH_PICTURE | {"image": "coco/none.jpg"}, "the picture coco/none.jpg is missing in"),
        (WITH_PICTURE | {"image": "../secret.jpg"}, "'../secret.jpg' is no path inside"),
        (WITH_PICTURE | {"image": "coco/../../secret.jpg"}, "is no path inside"),
        (WITH_PICTURE | {"image": "/etc/passwd"}, "'/etc/passwd' is no path inside"),
        (WITH_PICTURE | {"image": ""}, "'' is no path inside"),
        (WITH_PICTURE | {"image": "a\0b"}, "is no path inside"),
        (WITH_PICTURE | {"image": "a" * 5000}, "is missing in"),
        (WITH_PICTURE | {"image": "coco"}, "the picture coco is missing"),
        (WITH_PICTURE | {"image": ["a.jpg"]}, "has the image ['a.jpg']; expected one path"),
        (WITH_PICTURE | {"image": None}, "has <image> 1 times and no image"),
        (
            WITH_PICTURE | {"conversations": talk("What?", "a bus")},
            "has <image> 0 times and the image coco/train/33471.jpg",
        ),
        (WITH_PICTURE | {"conversations": talk("What?", "<image>")}, "in a turn from gpt"),
        (TEXT_ONLY | {"conversations": talk("<image> a", "b")}, "has <image> 1 times and no image"),
        (TEXT_ONLY | {"conversations": talk("a", "b", "c")}, "has 3 turns; expected human and gpt"),
        (TEXT_ONLY | {"conversations": []}, "has 0 turns"),
        (TEXT_ONLY | {"conversations": talk("a", "b")[::-1]}, "turn 0 is from 'gpt'"),
        (TEXT_ONLY | {"conversations": [*talk("a"), *talk("b")]}, "turn 1 is from 'human'"),
        (TEXT_ONLY | {"conversations": ["a", "b"]}, "turn 0 is from 'a'"),
        (TEXT_ONLY | {"conversations": [{"from": "human"}] * 2}, "turn 0 has no text"),
        ({"id": 7, "conversation": []}, "expected an element of a list of"),
        (["a"], 'is ["a"]; expected an element'),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_file(imported, tmp_path, row, message):
    with pytest.raises(DataError) as error:
        imported([TEXT_ONLY, row])
    told = str(error.value)
    named = f" (id {row['id']})" if isinstance(row, dict) else ""
    assert told.startswith(f"{tmp_path / 'llava.json'}: row 1{named}: ") and message in told
    assert "\n" not in told and sorted(p.name for p in tmp_path.iterdir()) == [
        "llava.json",
        "pictures",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": "\ud83d.jpg"}, "the path of its image has half of a surrogate pair"),
        ({"conversations": talk("<image>", "\ud83d")}, "turn 1 has half of a surrogate pair"),
    ],
)
def test_half_a_character_is_named_where_the_parser_lets_it_through(
    imported, monkeypatch, changes, message
):
    monkeypatch.setattr(ijson, "items", ijson.get_backend("python").items)
    with pytest.raises(DataError, match=message):
        imported([WITH_PICTURE | changes])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not readable as JSON"),
        ("[", "not readable as JSON"),
        ("[]", "has no rows; expected a list of"),
        (json.dumps([TEXT_ONLY])[:-9], "not readable as JSON"),
        (json.dumps({"item": [TEXT_ONLY]}), "is no JSON list; expected a list of"),
        (json.dumps(TEXT_ONLY) + "\n" + json.dumps(TEXT_ONLY), "is no JSON list"),
        ("[1 2]", "row 0: is 1; expected"),
    ],
)
def test_another_file_than_llavas_json_is_refused(imported, tmp_path, content, message):
    with pytest.raises(DataError) as error:
        imported(content)
    assert str(error.value).startswith(str(tmp_path / "llava.json")) and message in str(error.value)


def test_a_file_or_folder_that_is_not_there_is_named(tmp_path, pictures):
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        import_llava(tmp_path / "none.json", pictures, tmp_path / "out.parquet")
    with pytest.raises(DataError, match="nowhere: no such folder of pictures"):
        import_llava(tmp_path / "none.json", tmp_path / "nowhere", tmp_path / "out.parquet")


def test_a_large_file_is_read_as_a_stream_into_small_row_groups(tmp_path, pictures):
    source, out = tmp_path / "llava.json", tmp_path / "out.parquet"
    peaks = []
    for rows in (100, 2000):
        with source.open("w") as file:
            text = "word " * 1000
            entries = ({"id": i, "conversations": talk(f"{i} {text}", text)} for i in range(rows))
            file.write("[" + ",".join(json.dumps(entry) for entry in entries) + "]")
        tracemalloc.start()
        assert import_llava(source, pictures, out) == rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert source.stat().st_size > 15e6 and peaks[1] < 4e6
    metadata = pq.ParquetFile(out).metadata
    assert metadata.num_rows == 2000
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    assert max(group.num_rows for group in groups) < 256


def test_pictures_are_opened_by_their_path(pictures, tmp_path):
    folder = PictureFolder(pictures)
    opened = folder.open("coco/train/33471.jpg")
    assert opened.mode == "RGB" and opened.size == (40, 30)
    assert opened.getpixel((5, 5))[0] > 180
    assert folder.open("coco/clear.png").getpixel((0, 0)) == (255, 255, 255)
    row = folder.row("coco/train/33471.jpg")
    assert row["image"]["bytes"] == (pictures / "coco/train/33471.jpg").read_bytes()
    assert row["image_id"] == row["image"]["path"] == "coco/train/33471.jpg"
    # A data set that lies elsewhere is often linked into the folder.
    (tmp_path / "elsewhere").mkdir()
    (pictures / "coco/clear.png").rename(tmp_path / "elsewhere/clear.png")
    (pictures / "vg").symlink_to(tmp_path / "elsewhere")
    assert folder.open("vg/clear.png").mode == "RGB"


def test_a_damaged_picture_is_named(pictures):
    path = pictures / "coco/train/33471.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"33471\.jpg: the picture is damaged"):
        PictureFolder(pictures).open("coco/train/33471.jpg")
