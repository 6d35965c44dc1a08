"""What a study may say of questions from elsewhere, and one message for each mistake."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.conftest import ROOT

from layersight import cost
from layersight.errors import StudyError
from layersight.questions.sources import missing
from layersight.slices import restore, take
from layersight.study import Study
from layersight.study_file import load_study

DISCS: dict[str, Any] = {
    "source": "file", "form": "jsonl", "path": "discs.jsonl", "items": 30,
    "inputs": ["image", "text"], "pictures": {"path": "discs"},
}  # fmt: skip
MMLU: dict[str, Any] = {
    "source": "hub", "form": "mmlu", "id": "cais/mmlu", "revision": "c" * 40, "rows": 14042,
    "files": ["all/test.parquet"], "items": 20, "inputs": ["text"], "megabytes": 4,
}  # fmt: skip
OF_DISCS = {"items": 24, "from": "discs"}


def load(tmp_path, **changes: Any) -> Study:
    data = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
    data |= {"name": "asked", "questions": {"discs": DISCS, "mmlu": MMLU}} | changes
    path = tmp_path / "asked.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return load_study(path)


def test_sets_make_tasks_with_pictures_and_on_words(tmp_path):
    study = load(tmp_path, probes=OF_DISCS)
    assert list(study.question_tasks) == ["discs", "discs_text", "mmlu_text"]
    assert study.tasks[:4] == study.benchmarks.tasks and study.tasks[4:] == [*study.question_tasks]
    assert study.text_tasks == ["kind_text", "discs_text", "mmlu_text"]
    assert study.probes.from_ == "discs" and study.probes.style is None


def test_a_step_can_be_given_one_set_alone(tmp_path):
    slice_ = take(load(tmp_path, probes=OF_DISCS), "seed", "probes.from", "questions.mmlu")
    part = restore(slice_)
    assert list(part.questions) == ["mmlu"] and part.probes.from_ == "discs"
    with pytest.raises(AttributeError):
        _ = part.benchmarks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "csv"}, "questions.discs.form: Input should be 'jsonl', 'mmlu', 'scienceqa'"),
        ({"item": 3}, "questions.discs.item: unknown key; did you mean 'items'?"),
        ({"source": "web"}, "questions.discs: Input tag 'web'"),
        ({"inputs": []}, "questions.discs.inputs: List should have at least 1 item"),
        ({"inputs": ["text", "text"]}, "questions.discs.inputs: names text twice"),
        ({"pictures": None}, "pictures: required with inputs: image"),
        ({"inputs": ["text"]}, "pictures: read by nothing: inputs has no image"),
        ({"form": "mmlu"}, "inputs: image, but the form mmlu has no pictures"),
        ({"form": "scienceqa", "pictures": None}, "make two sets of it, with [image] and with"),
        ({"form": "cocoqa"}, "captions: required with form: cocoqa"),
        ({"split": "restval"}, "split: is no key of the form jsonl"),
        ({"pictures": {"archive": "a.zip"}}, "pictures.archive: must be an address"),
        ({"items": 0}, "questions.discs.items: Input should be greater than 0"),
        ({"items": 1}, "questions.discs.items: must be at least 2"),
        (MMLU | {"revision": "main"}, "questions.discs.revision: String should match pattern"),
        (MMLU | {"rows": None}, "questions.discs.rows: Input should be a valid integer"),
        (MMLU | {"files": ["../a"]}, "questions.discs.files: must be files of the data set"),
        (MMLU | {"sha256": ["a" * 64] * 2}, "sha256: 2 digests of 1 files"),
        (MMLU | {"form": "cocoqa"}, "form: cocoqa is read from files"),
    ],
)
def test_a_mistake_in_a_set_is_one_message(tmp_path, change, message):
    own = change if change.get("id") else DISCS | change
    with pytest.raises(StudyError) as error:
        load(tmp_path, questions={"discs": own})
    assert message in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes": {"items": 24, "from": "disks"}}, "'disks' is none of `questions`: discs, mmlu"),
        ({"probes": {"items": 24, "from": "mmlu"}}, "questions.mmlu.inputs is text; must be image"),
        ({"probes": {"items": 31, "from": "discs"}}, "31 items, but questions.discs.items is 30"),
        ({"probes": OF_DISCS | {"style": "filled"}}, "style: is of pictograms"),
        ({"probes": {"items": 24}}, "probes.style: required, but not given"),
        ({"questions": {"presence": DISCS}}, "a set makes a task presence, which there is already"),
        ({"questions": {"a": DISCS, "a_text": DISCS}}, "a set makes a task a_text, which there is"),
        ({"patching": {"split": "disks", "items": 3, "sweeps": []}},
         "unseen_concept, discs, discs_text, mmlu_text, not 'disks'"),
        ({"patching": {"split": "discs", "items": 31, "sweeps": []}},
         "31 items asked of discs, which has questions.discs.items = 30"),
        ({"questions": {}, "benchmarks": {"tasks": [], "kind": 8, "presence": 4, "naming": 6}},
         "benchmarks.tasks: is empty: name at least one, or give `questions`"),
    ],
)  # fmt: skip
def test_sets_and_what_is_made_of_them_must_fit_together(tmp_path, changes, message):
    with pytest.raises(StudyError) as error:
        load(tmp_path, **changes)
    assert message in str(error.value), str(error.value)


def test_missing_files_and_folders_are_named_by_their_keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = {"archive": "https://a.org/val.zip"}
    files = {"path": "cocoqa/test", "captions": "coco.json", "about": "see its page"}
    coco = DISCS | {"form": "cocoqa", "pictures": archive} | files
    study = load(tmp_path, questions={"discs": DISCS, "coco": coco})
    assert [found.message for found in missing(study)] == [
        "questions.discs.path: discs.jsonl: no such file; name a file (jsonl)",
        "questions.discs.pictures.path: discs: no such folder of pictures; name the folder in "
        "which they are",
        "questions.coco.path: cocoqa/test: no such folder; see its page",
        "questions.coco.captions: coco.json: no such file; see its page",
    ]
    (tmp_path / "discs").mkdir()
    (tmp_path / "discs.jsonl").touch()
    assert len(missing(study)) == 2


def test_costs_follow_the_questions(tmp_path):
    some = load(tmp_path, probes=OF_DISCS)
    more = load(tmp_path, probes=OF_DISCS, questions={"discs": DISCS | {"items": 3000}})
    for rule in ("read_questions", "join_images", "make_question_tasks", "features", "score_items"):
        few, many = cost.predict(some, rule), cost.predict(more, rule)
        assert few.seconds < many.seconds and few.disk_mb < many.disk_mb, rule
    tasks = ["discs", "discs_text"]
    asked = cost.benchmarks(some, tasks=tasks).seconds
    longer = {"discs": DISCS | {"max_new_tokens": 100}}
    assert cost.benchmarks(load(tmp_path, questions=longer), tasks=tasks).seconds > asked
    sweeps = some.patching.model_dump()["sweeps"]
    free = load(tmp_path, patching={"split": "discs", "items": 8, "sweeps": sweeps})
    assert cost.patching(free).seconds > cost.patching(some).seconds
