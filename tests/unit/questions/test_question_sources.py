"""Files and pictures of question sets: taken from the hub's cache, checked, and found again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from tests.unit.data.test_elsewhere import COMMIT, NAME, archive_of_pictures, as_hub_cache

from layersight.cost import downloads, predict
from layersight.data.llava_json import PictureFolder
from layersight.data.wanted import hub_data, read_by_fetching_pictures
from layersight.errors import AssetError
from layersight.questions.sources import (
    fetch_question_pictures,
    fetch_questions,
    files_of,
    inputs_of,
    markers_of,
    pictures_of,
)
from layersight.study import FileQuestions, HubQuestions

FILES = {"all/a.jsonl": b'{"id": 1}', "b.jsonl": b'{"id": 2}'}


@pytest.fixture
def snapshot(tmp_path, monkeypatch) -> Path:
    """The user's own cache of the hub with the data set in it, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    archive = archive_of_pictures(tmp_path / "images.zip").read_bytes()
    flat = {name.replace("all/", ""): content for name, content in FILES.items()}
    return as_hub_cache(flat | {"images.zip": archive}, tmp_path / "hf")


def asked(**changes: Any) -> HubQuestions:
    given = {
        "source": "hub", "form": "jsonl", "id": NAME, "revision": COMMIT, "rows": 2, "items": 2,
        "files": ["a.jsonl", "b.jsonl"], "inputs": ["image"],
        "pictures": {"archive": "images.zip", "inside": "train2017", "megabytes": 3},
    }  # fmt: skip
    return HubQuestions.model_validate(given | changes)


def test_files_and_pictures_of_the_hub_lie_in_the_cache_and_are_fetched_once(snapshot, tmp_path):
    own, cache = asked(), tmp_path / "cache"
    made = [fetch_questions(own, cache), fetch_question_pictures(own, cache)]
    assert made == markers_of(own, cache) and inputs_of(own, cache) == [str(path) for path in made]
    assert [path.read_bytes() for path in files_of(own, cache)] == list(FILES.values())
    assert PictureFolder(pictures_of(own, cache)).open("cat.jpg").size == (12, 10)
    for name in ("a.jsonl", "images.zip"):
        (snapshot / name).resolve().unlink()
    assert [fetch_questions(own, cache), fetch_question_pictures(own, cache)] == made


def test_a_file_with_another_digest_than_the_studys_is_refused(snapshot, tmp_path):
    right = [hashlib.sha256(content).hexdigest() for content in FILES.values()]
    assert fetch_questions(asked(sha256=right), tmp_path / "cache").is_file()
    with pytest.raises(AssetError, match=r"b\.jsonl of someone/talks: its SHA-256 is .* but the"):
        fetch_questions(asked(sha256=[right[0], "0" * 64]), tmp_path / "cache")


def test_without_network_the_missing_file_is_named(snapshot, tmp_path):
    with pytest.raises(AssetError, match=r"someone/talks: .*hf download someone/talks --repo-type"):
        fetch_questions(asked(files=["c.jsonl"]), tmp_path / "cache")


def test_only_files_that_are_there_are_inputs_of_a_job(tmp_path):
    own = FileQuestions.model_validate(
        {
            "source": "file", "form": "cocoqa", "path": str(tmp_path), "items": 2,
            "captions": str(tmp_path / "coco.json"), "inputs": ["text"],
        }
    )  # fmt: skip
    assert inputs_of(own, tmp_path) == []
    for name in ("types.txt", "coco.json"):
        (tmp_path / name).touch()
    assert inputs_of(own, tmp_path) == [str(tmp_path / "types.txt"), str(tmp_path / "coco.json")]


def test_what_sets_take_is_fetched_by_the_rules_and_listed_with_its_size(smoke, tmp_path):
    address = {"archive": "https://a.org/val.zip", "megabytes": 6000}
    of_file = FileQuestions.model_validate(
        {
            "source": "file", "form": "jsonl", "path": "q.jsonl", "items": 2, "inputs": ["image"],
            "pictures": address,
        }
    )  # fmt: skip
    sets = {"here": of_file, "there": asked(megabytes=7)}
    study = smoke.model_copy(update={"questions": sets})
    found = hub_data(study, tmp_path)
    assert list(found.questions.values()) == ["there"]
    assert [owner for owner, _ in found.archives.values()] == ["questions.here", "questions.there"]
    assert read_by_fetching_pictures("questions.here") == ["questions.here"]
    jobs = [("fetch_questions", {"questions": name}) for name in found.questions]
    jobs += [("fetch_pictures", {"archive": name}) for name in found.archives]
    listed = {
        item.what: item.megabytes
        for item in downloads(study, [(r, w, predict(study, r, **w)) for r, w in jobs])
        if not item.by_hand
    }
    assert listed == {
        f"a.jsonl, b.jsonl of {NAME} at {COMMIT[:12]}, 2 questions": 7,
        "https://a.org/val.zip": 6000,
        f"images.zip of {NAME} at {COMMIT[:12]}": 3,
    }
    assert json.dumps(study.model_dump(mode="json"))
