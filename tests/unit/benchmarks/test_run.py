"""Answering that is killed: answers are kept batch by batch, and the tables end up the same."""

from __future__ import annotations

import math
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import tiny_model
from tests.unit.tuning.killing import Counter, Killed, contents, write_features

from layersight import interruption
from layersight.benchmarks.items import ITEMS
from layersight.benchmarks.run import run_benchmarks
from layersight.data.schemas import BENCHMARK
from layersight.models.subjects import Subject
from layersight.models.vlm import VisionLanguageModel
from layersight.storage.manifest import read_manifest
from layersight.storage.tables import read_table

BATCHES = 3  # of each benchmark: seven items, three a batch


@pytest.fixture
def study(smoke):
    return smoke.model_copy(
        update={"evaluation": smoke.evaluation.model_copy(update={"batch_size": 3})}
    )


@pytest.fixture
def subject(tiny_folder, tokenizer):
    return Subject("full/seed-0", tiny_model(tiny_folder, 5), tokenizer)


@pytest.fixture
def files(tmp_path, feature_store):
    kinds = ["round", "angular", "pointed"]
    benchmarks = {}
    for name in ("kind_image", "naming"):
        free = name == "naming"
        rows = [
            {
                "item_id": f"i{index}",
                "split": "seen" if index < 4 else "unseen",
                "condition": "all",
                "concept": f"c{index}",
                "kind": kinds[index % 3],
                "subgroup": "circle",
                "image_id": "abc"[index % 3],
                "cluster": f"c{index}",
                "conversations": [
                    {"from": "human", "value": "<image>\nWhich kind?" + " round" * (index % 4)}
                ],
                "choices": [] if free else kinds,
                "answer": kinds[index % 3],
                "references": [f"round thing {index}"] if free else [],
                "chance": 1 / 3,
                "majority": 0.0,
            }
            for index in range(7)
        ]
        benchmarks[name] = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=BENCHMARK), benchmarks[name])
    return {
        "benchmarks": benchmarks,
        "features": write_features(feature_store, tmp_path / "features.safetensors"),
    }


@pytest.fixture
def batches(monkeypatch):
    """Counts the batches that the model reads, and kills before a chosen one."""
    counter = Counter(VisionLanguageModel.embed)
    monkeypatch.setattr(VisionLanguageModel, "embed", counter)
    return counter


def outs(folder):
    return {name: folder / name / "items.parquet" for name in ("kind_image", "naming")}


def test_every_benchmark_is_a_table_with_a_manifest_beside_it(
    study, subject, files, tmp_path, batches
):
    run_benchmarks(study, subject, **files, outs=outs(tmp_path / "out"))
    assert batches.calls == 2 * BATCHES
    for name, out in outs(tmp_path / "out").items():
        table = read_table(out, ITEMS)
        assert set(table.column("benchmark").to_pylist()) == {name}
        assert table.column("item_id").to_pylist() == [f"i{index}" for index in range(7)]
        cider = table.column("cider").to_pylist()
        assert all(math.isnan(value) != (name == "naming") for value in cider)
        assert read_manifest(out.with_name("manifest.json"))["items"] == 7
    chosen = read_table(outs(tmp_path / "out")["kind_image"]).column("prediction").to_pylist()
    assert set(chosen) <= {"round", "angular", "pointed"}


@pytest.mark.parametrize("after", [0, 2, 3, 5])
def test_answers_killed_before_any_batch_end_in_the_same_tables_and_none_is_asked_twice(
    study, subject, files, tmp_path, batches, after
):
    run_benchmarks(study, subject, **files, outs=outs(tmp_path / "undisturbed"))
    batches.calls = 0
    batches.die_after(after)
    work = tmp_path / "work"
    with pytest.raises(Killed):
        run_benchmarks(study, subject, **files, outs=outs(tmp_path / "out"), work=work)
    assert outs(tmp_path / "out")["kind_image"].exists() == (after >= BATCHES)
    run_benchmarks(study, subject, **files, outs=outs(tmp_path / "out"), work=work)
    assert batches.calls == 2 * BATCHES
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def cut(path):
    path.write_bytes(path.read_bytes()[:40])


def empty(path):
    path.write_bytes(b"")


def of_another_batch(path):
    path.write_bytes(path.with_name("batch-000002.parquet").read_bytes())


@pytest.mark.parametrize("damage", [cut, empty, of_another_batch])
def test_answers_that_cannot_be_read_back_are_asked_again(
    study, subject, files, tmp_path, batches, damage
):
    work = tmp_path / "work"
    run_benchmarks(study, subject, **files, outs=outs(tmp_path / "undisturbed"), work=work)
    damage(work / "naming" / "batch-000001.parquet")
    batches.calls = 0
    run_benchmarks(study, subject, **files, outs=outs(tmp_path / "out"), work=work)
    assert batches.calls == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_sigterm_stops_between_batches_and_the_next_call_goes_on(
    study, subject, files, tmp_path, batches, capsys
):
    embed = batches.function

    def asked_to_end(*args, **kwargs):
        if batches.calls == BATCHES + 1:
            signal.raise_signal(signal.SIGTERM)
        return embed(*args, **kwargs)

    batches.function = asked_to_end
    before = signal.getsignal(signal.SIGTERM)
    interruption.install()
    try:
        message = "^full/seed-0 on naming: stopped on request at item 3; the same command goes on"
        with pytest.raises(interruption.Interrupted, match=message):
            run_benchmarks(
                study, subject, **files, outs=outs(tmp_path / "out"), work=tmp_path / "work"
            )
    finally:
        signal.signal(signal.SIGTERM, before)
        interruption.clear()
    run_benchmarks(study, subject, **files, outs=outs(tmp_path / "out"), work=tmp_path / "work")
    assert batches.calls == 2 * BATCHES
    assert "full/seed-0 on naming: goes on at item 3\n" in capsys.readouterr().err
