"""What a study may say of conversations from elsewhere, and one message for each mistake."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.conftest import ROOT

from layersight.errors import StudyError
from layersight.study import HubConversations, Study
from layersight.study_file import load_study

TALKS = {
    "source": "hub", "id": "someone/talks", "revision": "0" * 40, "file": "talks.json",
    "rows": 3, "pictures": {"coco": {"archive": "images.zip"}},
}  # fmt: skip


def load(tmp_path, data: dict[str, Any]) -> Study:
    smoke = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
    path = tmp_path / "talks.yaml"
    smoke["tuning"]["data"] = data
    path.write_text(yaml.safe_dump(smoke | {"name": "talks"}))
    return load_study(path)


def test_conversations_of_the_hub_are_read(tmp_path):
    data = load(tmp_path, TALKS).tuning.data
    assert isinstance(data, HubConversations)
    assert json.loads(data.model_dump_json())["pictures"]["coco"]["archive"] == "images.zip"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": None}, "tuning.data.revision: Input should be a valid string"),
        ({"revision": "main"}, "tuning.data.revision: must be a commit, 40 hexadecimal digits"),
        ({"file": "../talks.json"}, "tuning.data.file: must be a file of the data set"),
        ({"rows": 0}, "tuning.data.rows: Input should be greater than 0"),
        ({"pictures": {}}, "tuning.data.pictures: "),
        ({"pictures": {"a": {}}}, "tuning.data.pictures.a: names neither an archive to fetch nor"),
        (
            {"pictures": {"a": {"archive": "file:///etc/passwd"}}},
            "archive: must be a file of the data set or an address",
        ),
        (
            {"pictures": {"a": {"archive": "a.zip", "inside": "../b"}}},
            "tuning.data.pictures.a.inside: must be a folder in the archive",
        ),
        (
            {"pictures": {"a": {"archive": "a.zip", "sha256": "abc"}}},
            "tuning.data.pictures.a.sha256: String should match pattern",
        ),
        ({"pictures": {"../a": {"path": "x"}}}, "'../a' is no folder such as coco/train2017"),
        (
            {"pictures": {"vg": {"path": "x"}, "vg/VG_100K": {"path": "y"}}},
            "'vg/VG_100K' lies in another of these folders",
        ),
        ({"name": "talks"}, "tuning.data.name: unknown key"),
    ],
)
def test_a_mistake_is_named_with_its_key(tmp_path, change, message):
    with pytest.raises(StudyError) as refused:
        load(tmp_path, TALKS | change)
    assert message in str(refused.value) and "talks.yaml" in str(refused.value)


def test_a_revision_that_is_left_out_is_asked_for(tmp_path):
    with pytest.raises(StudyError, match=r"tuning\.data\.revision: required, but not given"):
        load(tmp_path, {key: value for key, value in TALKS.items() if key != "revision"})


def test_another_source_takes_the_place_of_an_inherited_one(tmp_path):
    load(tmp_path, TALKS)
    child = tmp_path / "child.yaml"
    mine = {"source": "llava", "file": "mine.json", "pictures": "mine"}
    text = {"extends": "talks", "name": "child", "tuning": {"data": mine}}
    child.write_text(yaml.safe_dump(text))
    data = load_study(child).tuning.data
    assert data is not None and data.source == "llava"
