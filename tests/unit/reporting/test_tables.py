from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from layersight.attention.items import ITEMS as ATTENTION_ITEMS
from layersight.attention.items import SUMMARY, TABLE
from layersight.benchmarks.items import ITEMS
from layersight.errors import DataError
from layersight.geometry.stages import CHANGE
from layersight.reporting.tables import (
    DIFFERENCES,
    RECOVERY,
    SCORES,
    concatenate,
    summarise_attention,
    summarise_recovery,
    summarise_scores,
)
from layersight.storage.tables import read_table, write_table
from layersight.study import Study
from layersight.tuning.weight_change import SCHEMA as WEIGHT_CHANGE


def answers(subject: str, benchmark: str = "kind_image") -> list[dict[str, Any]]:
    return [
        {
            "subject": subject,
            "variant": subject.partition("/")[0],
            "seed": 0 if "/" in subject else -1,
            "benchmark": benchmark,
            "split": "seen_style",
            "condition": "",
            "item_id": f"item-{index}",
            "concept": f"concept-{index}",
            "cluster": f"concept-{index}",
            "kind": "round",
            "prompt": "?",
            "answer": "round",
            "prediction": "round",
            "score": float(index % 2),
            "cider": None,
            "chance": 0.5,
            "majority": 0.5,
        }
        for index in range(4)
    ]


@pytest.mark.parametrize(("name", "schema"), [("change", CHANGE), ("weight_change", WEIGHT_CHANGE)])
def test_tables_of_no_subject_are_empty_and_have_their_columns(
    name: str, schema: Any, tmp_path: Path
) -> None:
    concatenate([], tmp_path / f"{name}.parquet")
    table = read_table(tmp_path / f"{name}.parquet")
    assert table.num_rows == 0
    assert table.schema == schema


def test_nothing_to_put_together_under_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"other\.parquet: nothing to put together"):
        concatenate([], tmp_path / "other.parquet")


def test_recovery_of_no_subject_is_an_empty_table(smoke: Study, tmp_path: Path) -> None:
    summarise_recovery(smoke, items=[], out=tmp_path / "recovery.parquet")
    table = read_table(tmp_path / "recovery.parquet", RECOVERY)
    assert table.num_rows == 0


def test_attention_is_summarised_with_the_study_s_seed_and_level(
    smoke: Study, tmp_path: Path
) -> None:
    rows = [
        {
            "subject": "aligned",
            "item_id": f"i{item}",
            "block": 0,
            "kind": "mean",
            "bos": False,
            "ratio": 0.1 * item,
            "image": 0.1,
            "text": 0.1,
        }
        for item in range(9)
    ]
    write_table(tmp_path / "items.parquet", rows, ATTENTION_ITEMS)

    def summarised(study: Study) -> dict[str, Any]:
        out, summary = tmp_path / "attention.parquet", tmp_path / "attention_summary.parquet"
        summarise_attention(
            study, items=[tmp_path / "items.parquet"], manifests={}, out=out, summary=summary
        )
        assert read_table(summary, SUMMARY).num_rows == 1
        (row,) = read_table(out, TABLE).to_pylist()
        return dict(row)

    found = summarised(smoke)
    assert found["value"] == pytest.approx(0.4)
    assert summarised(smoke) == found
    narrow = smoke.statistics.model_copy(update={"level": 0.6})
    closer = summarised(smoke.model_copy(update={"statistics": narrow}))
    assert found["low"] < closer["low"] < closer["high"] < found["high"]
    other = summarised(smoke.model_copy(update={"seed": smoke.seed + 1}))
    assert [other["low"], other["high"]] != [found["low"], found["high"]]


@pytest.mark.parametrize("tuned", [[], ["full/seed-0"]])
def test_scores_and_differences_have_the_same_columns_with_and_without_tuned_subjects(
    smoke: Study, tmp_path: Path, tuned: list[str]
) -> None:
    parts = []
    for subject in ["aligned", *tuned]:
        parts.append(tmp_path / f"{subject.replace('/', '-')}.parquet")
        write_table(parts[-1], answers(subject), ITEMS)
    scores, differences = tmp_path / "scores.parquet", tmp_path / "differences.parquet"
    summarise_scores(smoke, items=parts, scores=scores, differences=differences)
    assert read_table(scores).schema == SCORES
    assert read_table(differences).schema == DIFFERENCES
    assert read_table(scores).num_rows == 1 + len(tuned)
    assert read_table(differences).num_rows == len(tuned)
