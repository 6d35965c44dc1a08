"""Which jobs run after an edit: exactly those that it concerns, and no other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.workflow.conftest import Checkout
from tests.workflow.edits import EDITS, LIBRARY, RESULTS, Edit, jobs


@pytest.fixture(scope="module")
def finished(smoke_run: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with a finished run, for edits that are taken back."""
    folder = tmp_path_factory.mktemp("finished") / "layersight"
    shutil.copytree(smoke_run.folder, folder, symlinks=True)
    return Checkout(folder)


def why(checkout: Checkout, edit: Edit, packages: Path | None = None) -> dict[str, str]:
    """Return the jobs that a dry run would run, with their reasons."""
    said = checkout.folder.parent / "why"
    said.write_text("")
    environment = {**os.environ, "LAYERSIGHT_WHY": str(said)}
    environment["LAYERSIGHT_CACHE"] = str(checkout.folder / "cache")
    environment.pop("PYTHONPATH", None)
    if any(text.startswith("assets=") for text in edit.config):
        del environment["LAYERSIGHT_CACHE"]
    if packages is not None:
        environment["PYTHONPATH"] = str(packages)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "-n",
            *edit.ask,
            "--config",
            "study=smoke",
            *edit.config,
        ],
        cwd=checkout.folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    lines = said.read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_an_edit_runs_exactly_what_it_concerns(finished: Checkout, edit: Edit, tmp_path: Path):
    kept = tmp_path / "kept"
    touched = [edit.file] if edit.file else []
    if edit.act is not None:
        for part in ("results", ".snakemake", str(LIBRARY)):
            shutil.copytree(finished.folder / part, kept / part, symlinks=True)
    for file in touched:
        before = (finished.folder / file).read_text()
        assert edit.old in before, f"{file} does not hold {edit.old!r}"
        (finished.folder / file).write_text(before.replace(edit.old, edit.new, 1))
    packages = None
    for name, version in edit.packages:
        packages = tmp_path / "packages"
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    try:
        if edit.act is not None:
            edit.act(finished.folder)
        found = why(finished, edit, packages)
    finally:
        if edit.act is not None:
            for part in ("results", ".snakemake", str(LIBRARY)):
                shutil.rmtree(finished.folder / part, ignore_errors=True)
                (kept / part).rename(finished.folder / part)
        for file in touched:
            (finished.folder / file).write_text(before)
    assert set(found) == edit.runs
    if edit.because:
        assert any(edit.because in reason for reason in found.values()), found


def test_after_all_edits_are_taken_back_nothing_runs(finished: Checkout):
    assert why(finished, Edit("nothing", set())) == {}


def test_a_step_that_makes_the_same_again_stops_what_follows(finished: Checkout):
    """A real edit of code that changes no byte: what follows is kept, and nothing is computed."""
    file = finished.folder / LIBRARY / "data/probes.py"
    before = file.read_text()
    parts = sorted((finished.folder / RESULTS / "activations").rglob("part-*"))
    held = [path.read_bytes() for path in parts]
    file.write_text(before.replace("def probe_rows(", "@staticmethod\ndef probe_rows("))
    try:
        expected = jobs("make_probes", "capture_activations *", "capture_base_activations")
        assert expected <= set(why(finished, Edit("", set())))
        done = finished.snakemake("--cores", "2")
        assert done.returncode == 0, done.stdout[-3000:]
        for name in expected - {"make_probes"}:
            assert f"{name}: nothing that it depends on differs; its result is kept" in done.stdout
        assert "item 24/24" not in done.stdout
        assert [path.read_bytes() for path in parts] == held
        assert why(finished, Edit("", set())) == {}
    finally:
        file.write_text(before)
        finished.snakemake("--cores", "2")


def test_two_studies_share_data_features_and_training(finished: Checkout):
    study = finished.folder / "config/studies/other.yaml"
    study.write_text(
        "extends: smoke\nname: other\nbenchmarks: {tasks: [kind_image, kind_text, presence]}\n"
    )
    done = finished.snakemake("data", "models", "features", "--cores", "2", study="other")
    assert done.returncode == 0, done.stdout[-3000:]
    for name in ("make_concepts", "make_images", "features", "align", "tune full 0"):
        assert f"{name}: nothing that it depends on differs; its result is kept" in done.stdout
    assert "step 1/" not in done.stdout and "step 6/" not in done.stdout
    for name in ("connector.safetensors", "language_model.safetensors"):
        ours, theirs = (
            finished.folder / f"results/{study}/models/full/seed-0/{name}"
            for study in ("other", "smoke")
        )
        assert ours.read_bytes() == theirs.read_bytes()


def test_adding_a_benchmark_asks_that_one_alone(finished: Checkout):
    """After the test above: a study of three benchmarks, which gets a fourth."""
    study = finished.folder / "config/studies/other.yaml"
    if not study.is_file():
        pytest.skip("needs the study of the test above")
    done = finished.snakemake("benchmarks", "--cores", "2", study="other")
    assert done.returncode == 0, done.stdout[-3000:]
    study.write_text("extends: smoke\nname: other\n")
    done = finished.snakemake("benchmarks", "--cores", "2", study="other")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "full/seed-0 on naming: item" in done.stdout
    for other in ("kind_image", "kind_text", "presence"):
        assert f"on {other}: item" not in done.stdout
    for rule in ("Tuning", "Aligning", "Reading the activations", "Patching"):
        assert rule not in done.stdout


def test_results_that_the_study_no_longer_names_are_listed_and_not_removed(finished: Checkout):
    environment = {**os.environ, "PYTHONPATH": str(finished.folder / "workflow")}
    for overrides, expected in (((), False), (("variants={lora-1-3: null}",), True)):
        summary = finished.snakemake("--summary", "--config", "study=smoke", *overrides).stdout
        listed = subprocess.run(
            [sys.executable, "-m", "layersight.prune", str(RESULTS)],
            cwd=finished.folder,
            env=environment,
            input=summary,
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        assert ("models/lora-1-3" in listed) is expected
        assert "models/full" not in listed and "tables" not in listed
        assert ("Nothing to prune" in listed) is not expected
    assert (finished.folder / RESULTS / "models/lora-1-3").is_dir()
