"""Choosing the questions of a set, checking them and their pictures, and what is asked of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from layersight.data.schemas import BENCHMARK, IMAGES, PROBE
from layersight.errors import DataError
from layersight.questions.ask import (
    make_question_probes,
    make_question_tasks,
    probe_rows,
    prompt,
    task_rows,
)
from layersight.questions.items import Item, read_items
from layersight.questions.read import choose, join_images, read_questions
from layersight.storage.tables import read_table
from layersight.study import FileQuestions, Study
from layersight.study_data import Pictures

COLOURS = ("red", "green", "blue")


def entries(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{number}", "question": "What colour is it?", "answers": [COLOURS[number % 3]],
            "kind": "colour", "image": f"{number}.png",
            "captions": [f"A disc {number}.", "A disc."],
        }
        for number in range(count)
    ]  # fmt: skip


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "discs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    (folder / "pictures").mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        if row.get("image"):
            size = (20, 12) if number % 2 else (16, 16)
            Image.new("RGB", size, COLOURS[number % 3]).save(folder / "pictures" / row["image"])
    return path


def asked(path: Path, **changes: Any) -> FileQuestions:
    settings: dict[str, Any] = {
        "source": "file", "form": "jsonl", "path": str(path), "items": 4,
        "inputs": ["image", "text"], "pictures": Pictures(path=str(path.parent / "pictures")),
    }  # fmt: skip
    return FileQuestions(**settings | changes)


def with_set(smoke: Study, own: FileQuestions) -> Study:
    probes = smoke.probes.model_copy(update={"from_": "discs", "items": 3})
    return smoke.model_copy(update={"questions": {"discs": own}, "probes": probes})


@pytest.fixture
def made(smoke, tmp_path):
    """Tables of a set of six, of which four are asked."""
    study = with_set(smoke, asked(write(tmp_path, entries(6)), rows=6))
    out, images = tmp_path / "questions.parquet", tmp_path / "images.parquet"
    read_questions(study, "discs", cache=tmp_path, out=out, images=images)
    return study, out, images


def test_as_many_as_wanted_are_chosen_with_their_pictures_as_the_files_have_them(made, tmp_path):
    _, out, images = made
    items = read_items(out)
    assert len({item.item_id for item in items}) == 4
    table = {row["image_id"]: row for row in read_table(images, IMAGES).to_pylist()}
    assert set(table) == {item.image_id for item in items}
    for name, row in table.items():
        file = tmp_path / "pictures" / name.removeprefix("discs/")
        assert row["image"]["bytes"] == file.read_bytes() and row["concept"] == ""


def test_the_choice_follows_the_seed_and_is_no_other_the_second_time(made, tmp_path):
    study, out, _ = made
    found = []
    for seed in (study.seed, study.seed + 1):
        again = tmp_path / f"{seed}.parquet"
        other = study.model_copy(update={"seed": seed})
        read_questions(other, "discs", cache=tmp_path, out=again, images=tmp_path / "i.parquet")
        found.append([item.item_id for item in read_items(again)])
    assert found[0] == [item.item_id for item in read_items(out)] != found[1]


def test_row_i_of_all_probe_sets_is_the_same_question(made, tmp_path):
    study, out, _ = made
    outs = {name: tmp_path / f"{name}.parquet" for name in study.probes.sets}
    make_question_probes(study, out, outs)
    tables = {name: read_table(path, PROBE).to_pylist() for name, path in outs.items()}
    for rows in zip(*tables.values(), strict=True):
        assert len({row["item_id"] for row in rows}) == 1 and rows[0]["kind"] == "colour"
    assert len(tables["pair_images"]) == 3
    item = read_items(out)[0]
    said = {name: rows[0]["conversations"][0]["value"] for name, rows in tables.items()}
    guide = "What colour is it?\nAnswer the question using a single word or phrase."
    assert said == {
        "visual_questions": f"<image>\n{guide}",
        "text_questions": "Below are 2 descriptions of an image. Use them to answer the question."
        f"\n\n1: {item.captions[0]}\n2: A disc.\n\n{guide}",
        "pair_images": "<image>",
        "pair_texts": item.captions[0],
    }
    assert tables["text_questions"][0]["image_id"] is None
    assert tables["pair_images"][0]["image_id"] == item.image_id


def test_a_set_is_a_task_with_pictures_and_one_on_words(made, tmp_path):
    study, out, _ = made
    outs = {name: tmp_path / f"{name}.parquet" for name in ("discs", "discs_text")}
    make_question_tasks(study, {"discs": out}, outs)
    for task, path in outs.items():
        rows = read_table(path, BENCHMARK).to_pylist()
        assert [row["item_id"] for row in rows] == [
            f"{task}/{item.item_id}" for item in read_items(out)
        ]
        assert {row["split"] for row in rows} == {"all"} and {row["chance"] for row in rows} == {
            0.0
        }
        assert all((row["image_id"] is None) == (task == "discs_text") for row in rows)
        counts = [row["answer"] for row in rows]
        commonest = max(counts, key=counts.count)
        assert [row["majority"] == 1.0 for row in rows] == [a == commonest for a in counts]


def test_choices_are_listed_by_letter_and_the_answer_is_the_letter(smoke, tmp_path):
    path = tmp_path / "letters.jsonl"
    rows = [
        {"id": n, "question": "Which?", "choices": ["x", "y", "z"], "answer": n} for n in range(3)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    own = asked(path, items=3, inputs=["text"], pictures=None)
    study = smoke.model_copy(update={"questions": {"letters": own}})
    out, images = tmp_path / "letters.parquet", tmp_path / "images.parquet"
    read_questions(study, "letters", cache=tmp_path, out=out, images=images)
    assert read_table(images, IMAGES).num_rows == 0
    make_question_tasks(study, {"letters": out}, {"letters_text": tmp_path / "t.parquet"})
    made = {row["concept"]: row for row in read_table(tmp_path / "t.parquet").to_pylist()}
    assert [made[name]["answer"] for name in "012"] == ["A", "B", "C"]
    assert made["0"]["chance"] == pytest.approx(1 / 3) and made["0"]["choices"] == ["A", "B", "C"]
    assert made["0"]["conversations"][0]["value"] == (
        "Which?\nA. x\nB. y\nC. z\nAnswer with the option's letter from the given choices directly."
    )


def test_the_guide_of_a_set_takes_the_place_of_the_usual_one():
    item = Item("1", "Why?", ("so",), captions=("One.",))
    assert prompt(item, "text", "Be brief.") == (
        "Below is 1 description of an image. Use it to answer the question."
        "\n\n1: One.\n\nWhy?\nBe brief."
    )
    assert prompt(item, "image", "") == "<image>\nWhy?"


def test_the_opening_of_an_answer_stands_behind_questions_and_nothing_else():
    item = Item("1", "Why?", ("so",), image_id="discs/1.png", captions=("One.",))
    own = asked(Path("discs.jsonl"), opening="Answer:")
    sets = probe_rows([item], own, 1)
    last = {name: rows[0]["conversations"][-1] for name, rows in sets.items()}
    opening = {"from": "opening", "value": "Answer:"}
    assert last["visual_questions"] == last["text_questions"] == opening
    assert last["pair_images"]["from"] == last["pair_texts"]["from"] == "human"
    (row,) = task_rows([item], own, "discs", "image")
    assert row["conversations"][-1] == opening


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([], {}, "has no items; expected at least 4"),
        (entries(3), {}, "has 3 items to ask, but the study wants 4"),
        (entries(6), {"rows": 7}, "has 6 items, but 7 were published"),
        ([*entries(5), entries(1)[0]], {}, "item q0: occurs twice"),
        ([*entries(5), {"id": "x", "question": "?", "answers": ["a"]}], {},
         "item x: has no image, but inputs of the set has image"),
        ([*entries(5), {"id": "x", "question": "?", "answers": ["a"], "image": "0.png"}], {},
         "item x: has no captions, but inputs of the set has text"),
        ([*entries(5), entries(6)[5] | {"answers": [" "]}], {}, "item q5: answers has none, or an"),
        ([*entries(5), entries(6)[5] | {"question": "a <image>"}], {}, "item q5: has <image> in"),
        ([*entries(5), entries(6)[5] | {"question": ""}], {}, "item q5: question is empty"),
    ],
)  # fmt: skip
def test_a_set_that_cannot_be_asked_is_refused_by_file_and_item(tmp_path, rows, changes, message):
    path = write(tmp_path, rows)
    with pytest.raises(DataError) as error:
        choose(asked(path, **changes), [path], np.random.default_rng(0))
    assert str(path) in str(error.value) and message in str(error.value)


def spoilt(folder: Path, content: bytes | None) -> None:
    for path in (folder / "pictures").iterdir():
        path.unlink() if content is None else path.write_bytes(content)


def gif() -> bytes:
    frames = [Image.new("L", (16, 16), shade) for shade in (0, 255)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"the picture \d\.png is missing in "),
        (b"no picture", r"questions\.discs: the picture \d\.png is damaged or no picture"),
        (gif(), r"questions\.discs: the picture \d\.png is animated"),
    ],
)
def test_a_missing_damaged_or_wrong_picture_is_named_and_nothing_is_written(
    smoke, tmp_path, content, message
):
    study = with_set(smoke, asked(write(tmp_path, entries(4))))
    spoilt(tmp_path, content)
    out, images = tmp_path / "out.parquet", tmp_path / "images.parquet"
    with pytest.raises(DataError, match=message):
        read_questions(study, "discs", cache=tmp_path, out=out, images=images)
    assert not out.exists() and not images.exists()


def test_a_picture_outside_its_folder_is_refused(smoke, tmp_path):
    rows = entries(4)
    path = write(tmp_path, rows)
    path.write_text("\n".join(json.dumps(row | {"image": "../discs.jsonl"}) for row in rows))
    with pytest.raises(DataError, match=r"'\.\./discs\.jsonl' is no path inside"):
        read_questions(
            with_set(smoke, asked(path)), "discs", cache=tmp_path,
            out=tmp_path / "o", images=tmp_path / "i",
        )  # fmt: skip


def test_scienceqa_is_asked_with_pictures_or_without_but_not_both(smoke, tmp_path):
    picture = io.BytesIO()
    Image.new("RGB", (16, 9), "red").save(picture, "PNG")
    rows = [
        {
            "image": {"bytes": picture.getvalue(), "path": None} if number % 2 else None,
            "question": f"Which {number}?", "choices": ["a", "b"], "answer": 0, "hint": "",
            "topic": "physics",
        }
        for number in range(5)
    ]  # fmt: skip
    path = tmp_path / "test.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = {}
    for given, count in (("image", 2), ("text", 3)):
        own = asked(path, form="scienceqa", inputs=[given], pictures=None, items=count, rows=5)
        study = smoke.model_copy(update={"questions": {"science": own}})
        out, images = tmp_path / f"{given}.parquet", tmp_path / f"{given}-images.parquet"
        read_questions(study, "science", cache=tmp_path, out=out, images=images)
        found[given] = {item.question for item in read_items(out)}
        assert read_table(images, IMAGES).num_rows == (2 if given == "image" else 0)
    assert found == {"image": {"Which 1?", "Which 3?"}, "text": {f"Which {n}?" for n in (0, 2, 4)}}


def test_pictures_of_questions_and_of_concepts_become_one_table(made, tmp_path):
    _, _, images = made
    rows = [
        {"image_id": f"star/{n}", "concept": "star", "style": "s",
         "image": {"bytes": b"x", "path": None}}
        for n in range(40)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema=IMAGES), tmp_path / "concepts.parquet")
    join_images([tmp_path / "concepts.parquet", images], tmp_path / "all.parquet")
    assert read_table(tmp_path / "all.parquet", IMAGES).num_rows == 44
    images.write_bytes(b"no table")
    with pytest.raises(DataError, match="not a readable table of pictures"):
        join_images([images], tmp_path / "all.parquet")
