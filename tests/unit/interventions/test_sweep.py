"""A sweep that is killed: batches are kept, the table ends up the same, identities are checked."""

from __future__ import annotations

import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import tiny_model
from tests.unit.tuning.killing import Counter, Killed, contents, write_features

from layersight import interruption
from layersight.data.schemas import BENCHMARK
from layersight.interventions import sweep as module
from layersight.interventions.items import ITEMS
from layersight.interventions.sweep import IdentityError, plan, run_sweep
from layersight.models.subjects import Subject
from layersight.storage.manifest import read_manifest
from layersight.storage.tables import read_table

BATCHES = 3  # of each direction: five items, two a batch


@pytest.fixture
def study(smoke):
    return smoke.model_copy(
        update={
            "evaluation": smoke.evaluation.model_copy(update={"batch_size": 2}),
            "patching": smoke.patching.model_copy(update={"items": 5}),
        }
    )


@pytest.fixture
def subjects(tiny_folder, tokenizer):
    return (
        Subject("aligned", tiny_model(tiny_folder, 1), tokenizer),
        Subject("full/seed-0", tiny_model(tiny_folder, 2, noise=0.1), tokenizer),
    )


@pytest.fixture
def files(study, tmp_path, feature_store):
    kinds = ["round", "angular", "pointed"]
    rows = [
        {
            "item_id": f"i{index}",
            "split": study.patching.split,
            "condition": "all",
            "concept": f"c{index}",
            "kind": kinds[index % 3],
            "subgroup": "circle",
            "image_id": "abc"[index % 3],
            "cluster": f"c{index}",
            "conversations": [
                {"from": "human", "value": "<image>\nWhich kind?" + " round" * (index % 4)}
            ],
            "choices": kinds,
            "answer": kinds[index % 3],
            "references": [],
            "chance": 1 / 3,
            "majority": 0.0,
        }
        for index in range(6)
    ]
    benchmark = tmp_path / "kind_image.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=BENCHMARK), benchmark)
    return {
        "benchmark": benchmark,
        "features": write_features(feature_store, tmp_path / "features.safetensors"),
    }


@pytest.fixture
def batches(monkeypatch):
    """Counts the batches that all hybrids run on, and kills before a chosen one."""
    counter = Counter(module.run_hybrids)
    monkeypatch.setattr(module, "run_hybrids", counter)
    return counter


def test_a_sweep_has_a_row_for_every_direction_hybrid_and_item(
    study, subjects, files, tmp_path, batches
):
    out = tmp_path / "items.parquet"
    run_sweep(study, *subjects, **files, out=out)
    table = read_table(out, ITEMS).to_pandas()
    hybrids = len(plan(study, 4))
    assert len(table) == 2 * hybrids * 5
    assert not table.duplicated(
        ["direction", "sweep", "start", "stop", "connector", "item_id"]
    ).any()
    assert batches.calls == 2 * BATCHES
    assert read_manifest(tmp_path / "manifest.json")["hybrids"] == hybrids


@pytest.mark.parametrize("after", [0, 2, 4])
def test_a_sweep_killed_before_any_batch_ends_in_the_same_table_and_repeats_none(
    study, subjects, files, tmp_path, batches, after
):
    run_sweep(study, *subjects, **files, out=tmp_path / "undisturbed/items.parquet")
    batches.calls = 0
    batches.die_after(after)
    out, work = tmp_path / "out/items.parquet", tmp_path / "work"
    with pytest.raises(Killed):
        run_sweep(study, *subjects, **files, out=out, work=work)
    assert not out.exists()
    run_sweep(study, *subjects, **files, out=out, work=work)
    assert batches.calls == 2 * BATCHES
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize(("after", "checks"), [(2, 2), (3, 1), (4, 1)])
def test_identities_are_checked_on_the_first_batch_that_is_computed_in_each_direction(
    study, subjects, files, tmp_path, batches, monkeypatch, after, checks
):
    out, work = tmp_path / "items.parquet", tmp_path / "work"
    batches.die_after(after)
    with pytest.raises(Killed):
        run_sweep(study, *subjects, **files, out=out, work=work)
    counter = Counter(module.check_identities)
    monkeypatch.setattr(module, "check_identities", counter)
    run_sweep(study, *subjects, **files, out=out, work=work)
    assert counter.calls == checks


def test_a_broken_identity_stops_a_sweep_that_goes_on_and_its_batch_is_not_kept(
    study, subjects, files, tmp_path, batches
):
    out, work = tmp_path / "items.parquet", tmp_path / "work"
    batches.die_after(2)
    with pytest.raises(Killed):
        run_sweep(study, *subjects, **files, out=out, work=work)
    right = batches.function
    batches.function = lambda *args: [logits + 1e-6 for logits in right(*args)]
    with pytest.raises(IdentityError, match="patching nothing changes the logits"):
        run_sweep(study, *subjects, **files, out=out, work=work)
    assert len(list(work.rglob("*.parquet"))) == 2


def test_a_torn_piece_is_computed_again(study, subjects, files, tmp_path, batches):
    work = tmp_path / "work"
    run_sweep(study, *subjects, **files, out=tmp_path / "first/items.parquet", work=work)
    piece = work / "base_into_tuned/batch-000001.parquet"
    piece.write_bytes(piece.read_bytes()[:-10])
    batches.calls = 0
    run_sweep(study, *subjects, **files, out=tmp_path / "second/items.parquet", work=work)
    assert batches.calls == 1
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_sigterm_stops_a_sweep_between_batches(study, subjects, files, tmp_path, batches):
    run_hybrids = batches.function

    def asked_to_end(*args):
        if batches.calls == BATCHES + 1:
            signal.raise_signal(signal.SIGTERM)
        return run_hybrids(*args)

    batches.function = asked_to_end
    before = signal.getsignal(signal.SIGTERM)
    interruption.install()
    out, work = tmp_path / "items.parquet", tmp_path / "work"
    try:
        message = "hybrids, base_into_tuned: stopped on request at item 2; the same command goes on"
        with pytest.raises(interruption.Interrupted, match=message):
            run_sweep(study, *subjects, **files, out=out, work=work)
    finally:
        signal.signal(signal.SIGTERM, before)
        interruption.clear()
    run_sweep(study, *subjects, **files, out=out, work=work)
    assert batches.calls == 2 * BATCHES
