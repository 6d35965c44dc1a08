"""The workflow before any job: dry runs, drawings, lint, and clear refusals."""

from __future__ import annotations

import re

import pytest
import yaml
from tests.workflow.conftest import ROOT

from layersight.cost.rules import ON_GPU

TARGETS = ("all", "data", "models", "activations", "geometry", "patching", "benchmarks", "report")


@pytest.mark.parametrize("study", ["smoke", "mini", "mini-geometry", "small"])
def test_a_dry_run_shows_every_stage(checkout, study):
    done = checkout.snakemake("-n", study=study)
    assert done.returncode == 0, done.stdout[-3000:]
    for rule in ("align", "tune", "capture_activations", "patching_sweep", "score_items"):
        assert rule in done.stdout
    for stage in ("data", "models", "activations", "geometry", "patching", "benchmarks", "total"):
        assert re.search(rf"^{stage} +\d+ +[\d.]+ +.*B  .*\(\w+\)$", done.stdout, re.MULTILINE)


def test_a_dry_run_writes_nothing(checkout):
    checkout.snakemake("-n")
    assert not (checkout.folder / "results").exists()


def test_mini_is_the_default_study(checkout):
    done = checkout.snakemake("-n", "--config", "seeds=1")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "results/mini/study.yaml" in done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_asked_for(checkout, target):
    done = checkout.snakemake(target, "-n")
    assert done.returncode == 0, done.stdout[-3000:]


def test_targets_are_listed(checkout):
    listed = checkout.snakemake("--list-target-rules").stdout.split()
    assert set(TARGETS) <= set(listed)


@pytest.mark.parametrize("view", ["--dag", "--rulegraph", "--summary", "--lint"])
def test_views_are_clean(checkout, view):
    done = checkout.snakemake(view)
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_slurm_profile_plans_the_study_from_the_root_of_a_clone(checkout):
    done = checkout.snakemake("--profile", "slurm", "-n")
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "study=nope",
            "config/studies/nope.yaml: no such study file; "
            "studies here: mini, mini-geometry, small, smoke",
        ),
        ("algin={steps: 3}", "algin: unknown key; did you mean 'align'?"),
        ("align={steps: many}", "align.steps: Input should be a valid integer, not 'many'"),
        ("align={learning_rate: 2}", "align.learning_rate: Input should be less than 1, not 2"),
        ("variants={late: {method: full, layers: [3, 9]}}", "[3, 9) is not inside [0, 4)"),
        (
            "variants={odd: {method: magic}}",
            "unknown method 'magic'; known methods: adapter, connector, freeze, full",
        ),
        (
            "variants={low: {method: lora, options: {rank: 3}}}",
            "variants.low.options.rank: unknown key",
        ),
        ("quota={disk_gb: 1e-6}", "quota.disk_gb: 0.01"),
        ("patching={split: everything}", "patching.split: must be seen_style"),
        ("probes={style: cubist}", "probes.style: 'cubist' is none of filled, outlined, striped"),
    ],
)
def test_a_mistake_in_the_study_is_one_message_before_any_job(checkout, config, message):
    study = () if config.startswith("study=") else ("study=smoke",)
    done = checkout.snakemake("--cores", "2", "--config", *study, config)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout
    assert not (checkout.folder / "results").exists()


def test_an_unseen_subgroup_that_does_not_exist_is_named(edited):
    made = edited("config/studies/smoke.yaml", "[ellipse, triangle, cross]", "[elipse]")
    done = made.snakemake("-n")
    assert done.returncode != 0
    assert "concepts: unseen_subgroups not listed under any kind: elipse" in done.stdout


def test_pinned_versions_of_the_conda_environment_are_those_of_the_lock_file():
    environment = yaml.safe_load((ROOT / "envs/layersight.yaml").read_text())
    assert {"pip": ["-r ../requirements.lock"]} in environment["dependencies"]
    lock = (ROOT / "requirements.lock").read_text().split()
    assert all("==" in line for line in lock)
    for package in ("torch==2.13.0", "dadapy==0.3.4"):
        assert package in lock


def test_every_rule_that_computes_on_a_gpu_is_sent_to_one_by_the_slurm_profile() -> None:
    renamed = re.compile(r"use rule (\w+) as (\w+) with")
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    names = set(ON_GPU) | {new for old, new in renamed.findall(rules) if old in ON_GPU}
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert set(profile["set-resources"]) == names
    for name, resources in profile["set-resources"].items():
        assert "gpu:a100" in resources["gres"], name
