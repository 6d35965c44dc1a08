"""Activations on another file system than the results, through the workflow."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.workflow.disturbing import copy_of_run, digests, left_behind

FOLDER = "results/smoke/activations"


def test_activations_made_on_a_scratch_file_system_are_the_same_bytes(
    smoke_run, tmp_path, mounted, monkeypatch
):
    copy = copy_of_run(smoke_run, tmp_path / "layersight")
    results = copy.folder / "results/smoke"
    expected = digests(results)
    scratch = tmp_path / "scratch"
    mounted(scratch, "size=50m")
    monkeypatch.setenv("LAYERSIGHT_SCRATCH", str(scratch))
    probe = f"{FOLDER}/aligned/pair_texts"

    refused = copy.snakemake(probe, "--cores", "1", "--forcerun", "capture_activations")
    assert refused.returncode != 0 and "activations: holds activations already" in refused.stdout

    shutil.rmtree(results / "activations")
    shutil.rmtree(results / ".kept/activations")
    made = copy.snakemake(probe, "--cores", "1")
    assert made.returncode == 0, made.stdout[-4000:]
    target = Path(os.readlink(results / "activations"))
    assert target.is_relative_to(scratch)
    assert os.stat(results / "activations/aligned").st_dev != os.stat(results).st_dev
    assert the_same_as(expected, target)
    assert left_behind(results) == left_behind(scratch) == []
    assert (target.parent / ".kept/activations/aligned").is_dir()

    # Old files are removed from there: nothing needs them, and who asks for them has them again.
    shutil.rmtree(target.parent)
    planned = copy.snakemake("-n", "--cores", "1")
    assert "Nothing to be done" in planned.stdout
    made = copy.snakemake(probe, "--cores", "1")
    assert made.returncode == 0, made.stdout[-4000:]
    assert the_same_as(expected, target)


def the_same_as(expected: dict[str, str], activations: Path) -> bool:
    """Whether a folder holds activations, all with the bytes that are expected."""
    made = digests(activations)
    return bool(made) and all(expected[f"activations/{name}"] == made[name] for name in made)
