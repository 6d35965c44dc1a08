"""Measures that a study asks for, through the whole workflow, on top of a finished run."""

from __future__ import annotations

import shutil

import pandas as pd
import pytest
from tests.workflow.conftest import Checkout

ASKED = (
    "--config",
    "study=smoke",
    "geometry={density: {k: 2}, alignment: {permutations: 20}, spectrum: {}}",
    "linear_probes={folds: 3, inner_folds: 2, strengths: [0.01, 1.0]}",
    "token_clouds={prompts: 4, shuffled_prompts: 2, largest_shuffle: 1, least_tokens: 3}",
)
TABLES = {
    "density": {"base", "aligned", "full/seed-0", "lora-1-3/seed-0"},
    "density_merges": set(),
    "density_peaks": {"base", "aligned", "full/seed-0", "lora-1-3/seed-0"},
    "alignment": {"aligned", "full/seed-0", "lora-1-3/seed-0"},
    "spectrum": {"base", "aligned", "full/seed-0", "lora-1-3/seed-0"},
    "massive": {"base", "aligned", "full/seed-0", "lora-1-3/seed-0"},
    "linear_probes": {"aligned", "full/seed-0", "lora-1-3/seed-0"},
    "token_clouds": {"base", "aligned", "full/seed-0", "lora-1-3/seed-0"},
    "token_cloud_loss": {"base", "aligned", "full/seed-0", "lora-1-3/seed-0"},
}


@pytest.mark.slow
def test_every_measure_that_a_study_can_ask_for_reaches_tables_figures_and_report(
    smoke_run: Checkout, fresh: Checkout
) -> None:
    shutil.copytree(smoke_run.folder / "results", fresh.folder / "results")
    shutil.copytree(smoke_run.folder / "cache", fresh.folder / "cache", dirs_exist_ok=True)
    done = fresh.snakemake("--cores", "2", *ASKED)
    assert done.returncode == 0, done.stdout[-6000:]
    tables = fresh.folder / "results/smoke/tables"
    for name, subjects in TABLES.items():
        frame = pd.read_parquet(tables / f"{name}.parquet")
        assert set(frame["subject"]) >= subjects, name
    report = (fresh.folder / "results/smoke/report/index.html").read_text()
    for title in ("Density peaks", "Linear probes", "Token clouds", "Spectrum"):
        assert title.lower() in report.lower(), title
    again = fresh.snakemake("--cores", "2", *ASKED)
    assert "Nothing to be done" in again.stdout
    # What was there before is as it was: nothing of it ran again.
    assert "rule tune" not in done.stdout and "rule capture_activations" not in done.stdout
