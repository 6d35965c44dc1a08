"""A study of released pairs, from tiny checkpoints to its report: nothing is trained."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from tests.unit.models import released_checkpoints as rel
from tests.unit.models import tiny_checkpoints as tiny

RESULTS = "results/pairs"


def write_study(folder, **changes):
    """Write tiny checkpoints and a study of three released models on them, like smoke otherwise."""
    parts = folder / "parts"
    if not parts.is_dir():
        rel.write_base(parts / "base")
        tiny.write_vision_encoder(parts / "clip", "clip")
        rel.write_llava(parts / "kept", vision=parts / "clip")
        rel.write_llava(parts / "tuned")
        rel.write_other(parts / "next", "llava_next")
        (parts / "projector").mkdir()
        torch.save(rel.projector(24), parts / "projector/mm_projector.bin")

    def at(name, **more):
        return {"source": "folder", "path": str(parts / name), **more}

    data = {
        "extends": "smoke",
        "name": "pairs",
        "seeds": 2,
        "backbone": {
            "language_model": at("base"),
            "vision_encoder": at("clip"),
            "connector": {"normalise": False},
        },
        "align": {"released": at("projector")},
        "variants": {
            "full": None,
            "lora-1-3": None,
            "kept": {"method": "released", "options": at("kept")},
            "tuned": {"method": "released", "options": at("tuned")},
            "words": {"method": "released", "options": at("next", inputs="text")},
        },
    } | changes
    (folder / "config/studies/pairs.yaml").write_text(yaml.safe_dump(data))


def jobs(shown):
    """Rules and how many jobs each has, from the overview of a run."""
    table = shown.partition("Job stats:")[2].partition("total")[0]
    rows = (line.split() for line in table.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def subjects_of(path):
    table = pq.read_table(path)
    names = table["subject"].to_pylist() if "subject" in table.column_names else []
    return set(names or table["variant"].to_pylist())


def test_a_dry_run_trains_nothing_and_asks_for_no_text_subject_on_pictures(fresh):
    write_study(fresh.folder)
    shown = fresh.snakemake("-n", study="pairs")
    assert shown.returncode == 0, shown.stdout[-4000:]
    found = jobs(shown.stdout)
    assert "align" not in found and "tune" not in found
    assert (found["take_connector"], found["take_released"]) == (1, 3)
    assert (found["capture_activations"], found["capture_text_activations"]) == (3, 1)
    assert (found["patching_sweep"], found["change"]) == (2, 3)


def test_a_pair_that_cannot_be_compared_stops_before_any_job(fresh):
    write_study(fresh.folder)
    options = {"source": "folder", "path": str(fresh.folder / "parts/next")}
    write_study(fresh.folder, variants={"pair": {"method": "released", "options": options}})
    shown = fresh.snakemake("-n", study="pairs")
    assert shown.returncode == 1
    assert "variants.pair.options.inputs" in shown.stdout
    assert "`inputs: text` compares its language model alone" in shown.stdout
    assert "Traceback" not in shown.stdout


@pytest.mark.slow
def test_a_study_of_released_pairs_runs_to_its_report(fresh):
    write_study(fresh.folder)
    done = fresh.snakemake("--cores", "2", study="pairs")
    assert done.returncode == 0, done.stdout[-6000:]
    results = fresh.folder / RESULTS
    kept, tuned, words = (
        json.loads((results / f"models/{name}/seed-0/manifest.json").read_text())
        for name in ("kept", "tuned", "words")
    )
    assert (kept["trainable_vision"] > 0, tuned["trainable_vision"] > 0) == (False, True)
    assert words["reads"] == "text"
    assert (results / "models/tuned/seed-0/features.safetensors").is_file()
    everyone = {"base", "aligned", "kept/seed-0", "tuned/seed-0", "words/seed-0"}
    tables = results / "tables"
    assert subjects_of(tables / "intrinsic_dimension.parquet") == everyone
    assert subjects_of(tables / "scores.parquet") == everyone
    assert subjects_of(tables / "weight_change.parquet") == everyone - {"base", "aligned"}
    assert subjects_of(tables / "change.parquet") == everyone - {"base", "aligned"}
    assert subjects_of(tables / "recovery.parquet") == {"kept", "tuned"}
    assert pq.read_table(tables / "training.parquet").num_rows == 0
    # Each moved by itself; base and aligned compute the same on text.
    changes = pq.read_table(tables / "weight_change.parquet").to_pandas()
    assert (changes["relative_change"] > 0.1).all()
    page = (results / "report/index.html").read_text()
    assert "released, not trained here" in page
    assert "its language model alone, on text" in page
    again = fresh.snakemake("--cores", "2", study="pairs")
    assert "Nothing to be done" in again.stdout
