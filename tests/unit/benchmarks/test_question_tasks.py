"""Questions from elsewhere: answered, scored by both rules, and put into the tables."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import tiny_model
from tests.unit.tuning.killing import write_features

from layersight.benchmarks import run as module
from layersight.benchmarks.items import ITEMS, QUESTION_ITEMS
from layersight.benchmarks.run import run_benchmarks
from layersight.data.schemas import BENCHMARK
from layersight.models.subjects import Subject
from layersight.reporting.tables import summarise_scores
from layersight.storage.manifest import read_manifest
from layersight.storage.tables import read_table

TASKS = {"discs": 2, "letters_text": 1}
SAID = ["It is 2", "two", "red", "A"]


def row(task: str, number: int) -> dict[str, object]:
    free = task == "discs"
    asked = "How many?" if free else "Which?\nA. x\nB. y"
    return {
        "item_id": f"{task}/{number}", "split": "all", "condition": "all", "concept": f"{number}",
        "kind": "number", "subgroup": "two", "image_id": "abc"[number % 3] if free else None,
        "cluster": f"{number}",
        "conversations": [{"from": "human", "value": f"<image>\n{asked}" if free else asked}],
        "choices": [] if free else ["A", "B"], "answer": "two" if free else "A",
        "references": ["two", "both"] if free else ["A"], "chance": 0.0 if free else 0.5,
        "majority": 1.0,
    }  # fmt: skip


@pytest.fixture
def answered(smoke, tiny_folder, tokenizer, feature_store, tmp_path, monkeypatch):
    """Two subjects' tables; what they say is given, how long it may be is noted."""
    tables, longest = {}, []
    for task in TASKS:
        tables[task] = tmp_path / f"{task}.parquet"
        rows = [row(task, number) for number in range(4)]
        pq.write_table(pa.Table.from_pylist(rows, schema=BENCHMARK), tables[task])

    def say(model, batch, subject, max_new_tokens):
        longest.append(max_new_tokens)
        return SAID[: len(batch.input_ids)]

    monkeypatch.setattr(module, "generate", say)
    features = write_features(feature_store, tmp_path / "features.safetensors")
    found = []
    for seed, name in enumerate(("aligned", "full/seed-0")):
        outs = {task: tmp_path / name / task / "items.parquet" for task in TASKS}
        subject = Subject(name, tiny_model(tiny_folder, seed), tokenizer)
        run_benchmarks(
            smoke, subject, benchmarks=tables, features=features, outs=outs, questions=TASKS
        )
        found.append(outs)
    return found, longest


def test_every_answer_is_scored_leniently_and_exactly(answered):
    found, longest = answered
    assert longest == [2, 1] * 2
    discs = read_table(found[0]["discs"], QUESTION_ITEMS).to_pylist()
    assert [(r["score"], r["exact"]) for r in discs] == [(1, 0), (1, 1), (0, 0), (0, 0)]
    assert {r["answer"] for r in discs} == {"two|both"}
    letters = read_table(found[0]["letters_text"], QUESTION_ITEMS).to_pylist()
    assert [(r["score"], r["exact"]) for r in letters] == [(0, 0), (0, 0), (0, 0), (1, 1)]
    manifest = read_manifest(found[0]["discs"].with_name("manifest.json"))
    assert manifest["settings"]["max_new_tokens"] == 2


def test_scores_and_paired_differences_have_both_rules_with_chance(answered, smoke, tmp_path):
    found, _ = answered
    scores, differences = tmp_path / "scores.parquet", tmp_path / "differences.parquet"
    items = [path for outs in found for path in outs.values()]
    summarise_scores(smoke, items=items, scores=scores, differences=differences)
    table = read_table(scores).to_pandas().set_index(["subject", "benchmark", "metric"])
    of_aligned = table.loc["aligned"]["value"].to_dict()
    assert of_aligned == {
        ("discs", "lenient_match"): 0.5, ("discs", "exact_match"): 0.25,
        ("letters_text", "lenient_match"): 0.25, ("letters_text", "exact_match"): 0.25,
    }  # fmt: skip
    assert table.loc["aligned", "letters_text", "lenient_match"]["chance"] == 0.5
    assert table.loc["aligned", "discs", "lenient_match"]["chance"] == 0.0
    compared = read_table(differences).to_pandas()
    assert len(compared) == 4 and (compared["value"] == 0.0).all()


def test_a_table_without_the_exact_rule_is_of_no_known_benchmark(answered, smoke, tmp_path):
    found, _ = answered
    table = read_table(found[0]["discs"]).drop_columns(["exact"]).cast(ITEMS)
    pq.write_table(table, tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"unknown benchmarks \['discs'\]"):
        summarise_scores(
            smoke, items=[tmp_path / "other.parquet"], scores=tmp_path / "s",
            differences=tmp_path / "d",
        )  # fmt: skip
