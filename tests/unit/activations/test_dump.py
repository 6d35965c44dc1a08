"""Dumps that are killed: finished parts are kept, and the files end up the same."""

from __future__ import annotations

import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import tiny_model
from tests.unit.tuning.killing import Counter, Killed, contents, write_features

from layersight import interruption
from layersight.activations import dump as module
from layersight.activations.dump import dump
from layersight.activations.store import ActivationStore
from layersight.data.schemas import PROBE
from layersight.models.subjects import Subject
from layersight.storage.manifest import read_manifest

ITEMS = 11
BATCH = 2
BATCHES = 6


@pytest.fixture
def study(smoke):
    return smoke.model_copy(
        update={
            "activations": smoke.activations.model_copy(update={"rows_per_part": 9}),
            "evaluation": smoke.evaluation.model_copy(update={"batch_size": BATCH}),
        }
    )


@pytest.fixture
def subject(tiny_folder, tokenizer):
    return Subject("aligned", tiny_model(tiny_folder, 0), tokenizer)


@pytest.fixture
def files(tmp_path, feature_store):
    probes = {}
    for name in ("pair_images", "pair_texts"):
        shows = name == "pair_images"
        rows = [
            {
                "item_id": f"i{index}",
                "concept": f"i{index}",
                "kind": "round",
                "subgroup": "circle",
                "image_id": "abc"[index % 3] if shows else None,
                "conversations": [
                    # Some pictures come without a word: they have no text stream.
                    {"from": "human", "value": "<image>" + "\nround circle" * (index % 4)}
                    if shows
                    else {"from": "human", "value": "round " * (1 + index % 5)}
                ],
            }
            for index in range(ITEMS)
        ]
        probes[name] = tmp_path / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=PROBE), probes[name])
    return {
        "probes": probes,
        "features": write_features(feature_store, tmp_path / "features.safetensors"),
    }


@pytest.fixture
def batches(monkeypatch):
    """Counts the batches that run, and kills before a chosen one."""
    counter = Counter(module.capture)
    monkeypatch.setattr(module, "capture", counter)
    return counter


def outs(folder):
    return {name: folder / "aligned" / name for name in ("pair_images", "pair_texts")}


def test_every_probe_set_is_a_folder_with_layers_and_a_manifest(
    study, subject, files, tmp_path, batches
):
    dump(study, subject, **files, outs=outs(tmp_path))
    assert batches.calls == 2 * BATCHES
    for name, streams in (
        ("pair_images", ["image_mean", "last", "text_mean"]),
        ("pair_texts", ["last", "text_mean"]),
    ):
        store = ActivationStore(tmp_path / "aligned" / name)
        assert store.layers == [0, 1, 2, 3, 4]
        assert store.streams() == streams
        assert sorted(store.read(0, "last")[0]) == sorted(f"i{i}" for i in range(ITEMS))
        names = {path.name.split("-")[0].split("=")[0] for path in store.folder.rglob("*")}
        assert names == {"layer", "part", "manifest.json"}
        assert not list(store.folder.glob("part-*"))
        assert read_manifest(store.folder / "manifest.json")["items"] == ITEMS
    assert sorted(path.name for path in (tmp_path / "aligned").iterdir()) == sorted(outs(tmp_path))


@pytest.mark.parametrize("after", [2, 5, 8])
def test_a_dump_killed_at_any_batch_ends_in_the_same_bytes_and_loses_one_part_at_most(
    study, subject, files, tmp_path, batches, after
):
    dump(study, subject, **files, outs=outs(tmp_path / "undisturbed"))
    batches.calls = 0
    work = tmp_path / "work"
    batches.die_after(after)
    with pytest.raises(Killed):
        dump(study, subject, **files, outs=outs(tmp_path / "out"), work=work)
    # What is done is there already, and nothing else.
    done = [name for name, out in outs(tmp_path / "out").items() if out.exists()]
    assert done == (["pair_images"] if after >= BATCHES else [])
    dump(study, subject, **files, outs=outs(tmp_path / "out"), work=work)
    # Fewer than nine rows are lost, of batches of four at least; the one that is split runs again.
    assert 2 * BATCHES <= batches.calls <= 2 * BATCHES + 3
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_parts_survive_when_the_unfinished_job_loses_its_outputs(
    study, subject, files, tmp_path, batches
):
    import shutil

    batches.die_after(2 * BATCHES - 1)
    work = tmp_path / "work"
    with pytest.raises(Killed):
        dump(study, subject, **files, outs=outs(tmp_path / "out"), work=work)
    shutil.rmtree(tmp_path / "out")
    batches.calls = 0
    dump(study, subject, **files, outs=outs(tmp_path / "out"), work=work)
    assert batches.calls <= 3
    part = "layer=00/part-0000.parquet"
    placed = outs(tmp_path / "out")["pair_images"] / part
    assert placed.samefile(work / "pair_images" / part), "parts are not copied"


def damage_layer(work):
    path = work / "pair_images/layer=03/part-0001.parquet"
    path.write_bytes(path.read_bytes()[:50])


def remove_layer(work):
    (work / "pair_images/layer=04/part-0001.parquet").unlink()


def damage_mark(work):
    (work / "pair_images/part-0001.json").write_text('{"calls": 4')


@pytest.mark.parametrize("damage", [damage_layer, remove_layer, damage_mark])
def test_a_part_that_is_not_whole_in_every_layer_is_done_again(
    study, subject, files, tmp_path, batches, damage
):
    dump(study, subject, **files, outs=outs(tmp_path / "undisturbed"))
    batches.die_after(BATCHES - 1)
    work = tmp_path / "work"
    with pytest.raises(Killed):
        dump(study, subject, **files, outs=outs(tmp_path / "out"), work=work)
    damage(work)
    (work / "pair_images/layer=00/.part-0009.parquet.part-1").write_bytes(b"left behind")
    dump(study, subject, **files, outs=outs(tmp_path / "out"), work=work)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_sigterm_stops_a_dump_between_batches_and_it_goes_on(
    study, subject, files, tmp_path, batches, capsys
):
    dump(study, subject, **files, outs=outs(tmp_path / "undisturbed"))
    capture = batches.function
    batches.calls = 0

    def asked_to_end(*args, **kwargs):
        if batches.calls == 4:
            signal.raise_signal(signal.SIGTERM)
        return capture(*args, **kwargs)

    batches.function = asked_to_end
    before = signal.getsignal(signal.SIGTERM)
    interruption.install()
    try:
        message = "^activations of aligned on pair_images: stopped on request at item 8; the same"
        with pytest.raises(interruption.Interrupted, match=message):
            dump(study, subject, **files, outs=outs(tmp_path / "out"), work=tmp_path / "work")
        interruption.clear()
        batches.function = capture
        dump(study, subject, **files, outs=outs(tmp_path / "out"), work=tmp_path / "work")
    finally:
        signal.signal(signal.SIGTERM, before)
        interruption.clear()
    assert "activations of aligned on pair_images: goes on at item" in capsys.readouterr().err
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
