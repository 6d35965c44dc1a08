"""The smoke study from nothing to its report, as a user runs it."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow.parquet as pq

import layersight


def test_the_run_ends_with_the_report_and_shows_the_remaining_time(smoke_run):
    log = (smoke_run.folder / "run.log").read_text()
    report = smoke_run.folder / "results/smoke/report/index.html"
    assert report.is_file()
    assert re.search(r"== tune is done · \d+ of \d+ jobs · about \d+ min left of this run", log)


def test_the_report_says_that_a_smoke_study_means_nothing(smoke_run):
    html = (smoke_run.folder / "results/smoke/report/index.html").read_text()
    assert "none of its numbers says anything" in html
    assert not re.search(r'(src|href)="https?://', html)


def test_a_second_run_does_nothing_and_says_so(smoke_run):
    again = smoke_run.snakemake("--cores", "2")
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout


def test_results_open_as_frames_and_arrays(smoke_run):
    results = layersight.open(smoke_run.folder / "results/smoke")
    assert set(results.tables) >= {"scores", "differences", "recovery", "change", "training"}
    assert results.subjects == ["aligned", "base", "full/seed-0", "lora-1-3/seed-0"]
    ids, vectors = results.activations("lora-1-3/seed-0", "visual_questions", 4, "image_mean")
    assert vectors.shape == (24, 48) and len(set(ids)) == 24
    scores = results.table("scores")
    assert (scores["low"] <= scores["value"]).all() and (scores["value"] <= scores["high"]).all()


def test_every_subject_has_every_layer_and_the_base_reads_text_only(smoke_run):
    root = smoke_run.folder / "results/smoke/activations"
    for subject in ("aligned", "full/seed-0", "lora-1-3/seed-0"):
        probes = {path.name for path in (root / subject).iterdir() if path.is_dir()}
        assert probes == {"visual_questions", "text_questions", "pair_images", "pair_texts"}
        for probe in probes:
            assert len(list((root / subject / probe).glob("layer=*"))) == 5
    assert {path.name for path in (root / "base").iterdir() if path.is_dir()} == {
        "text_questions",
        "pair_texts",
    }


def test_aligning_leaves_text_as_the_base_reads_it(smoke_run):
    results = layersight.open(smoke_run.folder / "results/smoke")
    for layer in (0, 2, 4):
        base = results.activations("base", "pair_texts", layer, "last")
        aligned = results.activations("aligned", "pair_texts", layer, "last")
        assert base[0].tolist() == aligned[0].tolist()
        assert np.array_equal(base[1], aligned[1])


def test_a_layer_restricted_variant_changed_those_blocks_and_no_other(smoke_run):
    change = layersight.open(smoke_run.folder / "results/smoke").table("weight_change")
    restricted = change[change["subject"] == "lora-1-3/seed-0"].set_index("block")
    assert (restricted.loc[[1, 2], "relative_change"] > 0).all()
    assert (restricted.loc[[0, 3], "relative_change"] == 0).all()
    full = change[change["subject"] == "full/seed-0"]
    assert (full["relative_change"] > 0).all()


def test_identities_and_the_evaluation_are_recorded_with_the_sweep(smoke_run):
    root = smoke_run.folder / "results/smoke"
    sweep = json.loads((root / "patching/full/seed-0/manifest.json").read_text())
    scores = json.loads((root / "benchmarks/full/seed-0/kind_image/manifest.json").read_text())
    assert sweep["identities"] == "exact"
    assert sweep["evaluation"] == scores["evaluation"]
    assert sweep["block_runs_of_the_prefix_tree"] < sweep["block_runs_one_by_one"]


def test_the_unpatched_target_scores_as_its_benchmark_says(smoke_run):
    """The sweep and the benchmark score the same model on the same items alike."""
    root = smoke_run.folder / "results/smoke"
    for subject, direction in (("full/seed-0", "base_into_tuned"), ("aligned", "tuned_into_base")):
        sweep = pq.read_table(root / "patching/full/seed-0/items.parquet").to_pandas()
        target = sweep[
            (sweep["sweep"] == "reference")
            & (sweep["direction"] == direction)
            & (sweep["connector"] == "target")
        ].set_index("item_id")["score"]
        items = pq.read_table(root / f"benchmarks/{subject}/kind_image/items.parquet").to_pandas()
        scored = items.set_index("item_id")["score"]
        assert target.to_dict() == scored.loc[target.index].to_dict()


def test_all_variants_have_the_same_budget(smoke_run):
    training = layersight.open(smoke_run.folder / "results/smoke").table("training")
    tuned = training[training["subject"] != "aligned"]
    per_step = tuned.pivot(index="step", columns="subject", values="tokens")
    assert (per_step.nunique(axis=1) == 1).all()


def test_every_job_leaves_a_log_and_a_timing(smoke_run):
    root = smoke_run.folder / "results/smoke"
    logs = {
        path.relative_to(root / "logs").with_suffix("") for path in (root / "logs").rglob("*.log")
    }
    times = {
        path.relative_to(root / "timings").with_suffix("")
        for path in (root / "timings").rglob("*.tsv")
    }
    assert logs == times and len(logs) > 25


def test_no_part_file_and_no_lock_stays_behind(smoke_run):
    root = smoke_run.folder / "results"
    known = {".plan.json", ".snakemake_timestamp", ".records", ".kept", ".digests.json"}
    left = [path for path in root.rglob(".*") if path.name not in known]
    assert left == []
    assert list(smoke_run.folder.glob(".snakemake/locks/*")) == []


def test_snakemakes_own_report_works(smoke_run):
    done = smoke_run.snakemake("--report", "report.html")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (smoke_run.folder / "report.html").stat().st_size > 100_000
