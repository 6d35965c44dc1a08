"""The workflow before any job: dry runs, drawings, lint, and clear refusals."""

from __future__ import annotations

import re

import pytest
import yaml
from tests.workflow.conftest import ROOT

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
    assert "on the GPU (tune)" in done.stdout


def test_the_profile_for_one_machine_with_gpus_plans_the_study(checkout):
    done = checkout.snakemake("--profile", "profiles/local-gpu", "-n")
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"About \d+ min on \d+ cores?", done.stdout)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "partitions:\n  cpu:",
            "partitions: {cpu: {max_threads: 64}}\nothers:\n  cpu:",
            "gpus.kinds.a100: there is no partition a100 with max_gpu",
        ),
        ("    max_gpu: 8", "    max_gpus: 8", "partitions.a100-80gb.max_gpus: unknown key"),
        (
            "max_mem_mb: 250000 ",
            "max_mem_mb: 500 ",
            "fits into no partition; the nearest is cpu, where it would take",
        ),
        ("max_runtime: 2-00:00:00", "max_runtime: tomorrow", "'tomorrow' is no time"),
    ],
)
def test_a_partition_file_that_does_not_fit_is_one_message_before_any_job(
    edited, old, new, message
):
    made = edited("profiles/slurm/partitions.yaml", old, new)
    done = made.snakemake("--profile", "slurm", "-n")
    assert done.returncode != 0
    assert message in done.stdout and "partitions.yaml" in done.stdout
    assert "Traceback" not in done.stdout
    assert not (made.folder / "results").exists()


def test_a_partition_file_without_gpus_is_refused_for_a_study_that_needs_one(checkout, tmp_path):
    (tmp_path / "plain.yaml").write_text("partitions: {cpu: {max_threads: 8}}")
    file = ("--slurm-partition-config", str(tmp_path / "plain.yaml"))
    done = checkout.snakemake("--profile", "slurm", "-n", *file)
    assert done.returncode != 0
    assert "plain.yaml: features asks for 1 GPU, but no partition has any" in done.stdout


def test_threads_are_those_of_the_study_whatever_the_login_node_has(checkout):
    config = ("--config", "study=smoke", "compute={training_threads: 999}")
    done = checkout.snakemake("--profile", "slurm", "-n", *config)
    assert done.returncode != 0
    assert "999 of at most 64 threads" in done.stdout


def test_a_partition_file_that_is_missing_is_named(checkout):
    done = checkout.snakemake("--profile", "slurm", "-n", "--slurm-partition-config", "gone.yaml")
    assert done.returncode != 0
    assert "gone.yaml" in done.stdout and "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "study=nope",
            "config/studies/nope.yaml: no such study file; "
            "studies here: abstraction, llava-1.5-13b, llava-1.5-7b, llava-steering-3b, "
            "llava-steering-7b, mini, mini-geometry, small, smoke, thesis",
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
    # Without sentencepiece and protobuf Vicuna's tokenizer cannot be converted.
    for package in ("torch==2.13.0", "dadapy==0.3.4", "sentencepiece==0.2.3", "protobuf==7.36.2"):
        assert package in lock


@pytest.mark.parametrize("name", ["layersight.def", "Containerfile"])
def test_containers_install_the_lock_file_on_the_python_of_the_lock(name):
    """Neither registry nor builder is at hand here: the recipes are read."""
    text = (ROOT / "envs" / name).read_text()
    conda = yaml.safe_load((ROOT / "envs/layersight.yaml").read_text())["dependencies"]
    (python,) = [line.removeprefix("python=") for line in conda if str(line).startswith("python=")]
    assert re.search(rf"^F(rom:|ROM) python:{python}-slim$", text, re.MULTILINE)
    source, place = re.findall(r"^(?:COPY| +)?\s*(requirements\.lock) (\S+)$", text, re.MULTILINE)[
        0
    ]
    assert (ROOT / source).is_file()
    assert f"pip install --no-cache-dir --requirement {place}\n" in text
    assert not re.search(r"pip install (?!--no-cache-dir --requirement)", text)


def test_the_apptainer_recipe_has_the_sections_that_apptainer_knows():
    lines = (ROOT / "envs/layersight.def").read_text().splitlines()
    header = dict(line.split(": ") for line in lines[: lines.index("")])
    assert header == {"Bootstrap": "docker", "From": "python:3.11-slim"}
    sections = [line for line in lines if line.startswith("%")]
    assert sections == ["%labels", "%help", "%files", "%post", "%environment", "%test"]
    assert all(line == "" or line.startswith(("%", "    ")) for line in lines[2:])
