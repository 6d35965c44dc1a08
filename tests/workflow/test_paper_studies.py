"""The studies at paper scale, planned for a cluster: dry runs alone, which fetch nothing."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import pytest
from tests.workflow.conftest import Checkout

from layersight.study_file import load_study

pytestmark = pytest.mark.slow  # a dry run of hundreds of jobs takes more than ten seconds

STUDIES = (
    "llava-1.5-7b", "llava-1.5-13b", "llava-steering-3b", "llava-steering-7b", "thesis",
    "abstraction",
)  # fmt: skip
UNITS = {"s": 1, "min": 60, "h": 3600}
# The base language model reads no pictures: it has a third of a subject's work, once a study.
SHORT = ("capture_base_activations", "score_base_items", "intrinsic_dimension base")
COLUMNS = (
    r"^(?P<job>\S+(?: \S+)*?)  +(?P<partition>here|cpu|a100|a100-80gb)"
    r"(?:  +(?P<gpus>\d+)  +(?P<gpu_memory>[\d.]+ [MG]B))?"
    r"  +(?P<threads>\d+)  +(?P<memory>[\d.]+ [MGT]B)  +(?P<limit>[\d.]+ (?:min|h|s))"
    r"  +(?P<predicted>[\d.]+) (?P<unit>min|h|s)  +(?P<disk>< 1 MB|[\d.]+ [MGT]B)$"
)


@dataclass
class Plan:
    """What a dry run said."""

    text: str
    jobs: list[dict[str, str]]

    def said(self) -> str:
        return " ".join(self.text.split())


@functools.cache
def planned(checkout_folder, study: str) -> Plan:
    done = Checkout(checkout_folder).snakemake("--profile", "slurm", "-n", study=study)
    assert done.returncode == 0, done.stdout[-3000:]
    found = [match.groupdict() for match in re.finditer(COLUMNS, done.stdout, re.MULTILINE)]
    return Plan(done.stdout, found)


@pytest.fixture(params=STUDIES)
def plan(request, checkout) -> tuple[str, Plan]:
    return request.param, planned(checkout.folder, request.param)


def test_every_job_is_listed_with_what_it_asks_for_and_where_it_goes(plan):
    _, found = plan
    jobs = found.jobs
    (total,) = set(re.findall(r"^total +(\d+)$", found.text, re.MULTILINE))
    assert len(jobs) == int(total) - 1  # `all` is no job
    assert len({job["job"] for job in jobs}) == len(jobs)
    for job in jobs:
        assert bool(job["gpus"]) == job["partition"].startswith("a100"), job
        if job["job"].startswith("fetch_"):
            assert job["partition"] == "here"


def test_gpu_hours_and_disk_are_predicted(plan):
    name, found = plan
    row = re.search(r"^total +\d+ +\d+ +([\d.]+) +([\d.]+) GB", found.text, re.MULTILINE)
    assert row, found.text
    hours = sum(
        float(job["predicted"]) * UNITS[job["unit"]] * int(job["gpus"]) / 3600
        for job in found.jobs
        if job["gpus"]
    )
    assert float(row[1]) == pytest.approx(hours, rel=0.05)
    # Training of many variants, or none at all.
    assert hours < 4 if name == "thesis" else hours > 300
    assert float(row[2]) > 10


def test_what_is_to_be_downloaded_is_listed_with_sizes_and_by_whom(plan, checkout):
    name, found = plan
    study = load_study(checkout.folder / f"config/studies/{name}.yaml")
    for part in (study.backbone.language_model, study.backbone.vision_encoder):
        line = re.search(rf"^  {part.id} at {part.revision[:12]}: ([\d.]+) GB$", found.text, re.M)
        assert line and float(line[1]) > 1
    if name == "thesis":
        for asset in (study.align.released, study.variants["llava"].released):
            assert f"  {asset.id} at {asset.revision[:12]}: " in found.text
        of_questions(study, found.said())
        return
    for data in (study.align.data, study.tuning.data):
        assert re.search(rf"{data.file} of {data.id} .*, {data.rows:,} conversations: ", found.text)
    for pictures in study.tuning.data.pictures.values():
        if pictures.path is None:
            assert f"  {pictures.archive}: " in found.text
    assert "To be downloaded, " in found.text
    said = found.said()
    assert "ocr_vqa/images: 8.4 GB; missing: tuning.data.pictures.ocr_vqa/images.path" in said


def of_questions(study, said: str) -> None:
    """What the questions of the thesis take from the hub and an address, and what people put."""
    for name in ("mmlu", "scienceqa"):
        asked = study.questions[name]
        at = f"{asked.files[0]} of {asked.id} at {asked.revision[:12]}"
        assert f"{at}, {asked.rows:,} questions: {asked.megabytes} MB" in said
    assert "http://images.cocodataset.org/zips/val2014.zip: 6.6 GB" in said
    coco = study.questions["cocovqa"]
    for key in ("path", "captions"):
        place = getattr(coco, key)
        assert f"{place}: size unknown; missing: questions.cocovqa.{key}: {place}: no such" in said


def test_no_submitted_job_is_predicted_to_take_less_than_a_minute(plan):
    _, found = plan
    submitted = [job for job in found.jobs if job["partition"] != "here"]
    short = {job["job"] for job in submitted if float(job["predicted"]) * UNITS[job["unit"]] < 60}
    assert {name for name in short if not name.startswith(SHORT)} == set()
    assert len(short) <= len(SHORT) < len(submitted) / 10


def test_what_runs_on_the_login_node_takes_less_than_a_minute_or_fetches(plan):
    _, found = plan
    for job in found.jobs:
        if job["partition"] == "here" and not job["job"].startswith("fetch_"):
            assert float(job["predicted"]) * UNITS[job["unit"]] < 60, job


ONE_GPU = """
partitions:
  cpu: {max_runtime: 48h, max_mem_mb: 250000, max_threads: 64}
  gpu: {max_gpu: 1, max_runtime: 24h, max_mem_mb: 250000, max_threads: 64}
gpus: {kinds: {gpu: {memory_gb: 40, device: A100}}}
"""


def refused(checkout, *arguments: str) -> str:
    done = checkout.snakemake(*arguments)
    assert done.returncode != 0, done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    assert not (checkout.folder / "results").exists()
    return " ".join(done.stdout.split())


def test_a_study_too_large_for_the_largest_node_is_refused_with_the_reason(checkout, tmp_path):
    (tmp_path / "one.yaml").write_text(ONE_GPU)
    file = ("--slurm-partition-config", str(tmp_path / "one.yaml"))
    said = refused(checkout, "--profile", "slurm", "-n", *file, "--config", "study=llava-1.5-13b")
    assert re.search(
        r"one\.yaml: \w+[\w /-]* fits into no partition; the nearest is gpu, where it would take",
        said,
    )
    assert (
        "of at most 1 GPUs on one node" in said or "of at most 40 GB of memory on one GPU" in said
    )
    assert "ask for less in the study" in said and "nothing has been started" in said


def test_a_study_over_its_quota_is_refused_with_both_numbers(checkout):
    config = ("--config", "study=llava-1.5-7b", "quota={gpu_hours: 100}")
    said = refused(checkout, "--profile", "slurm", "-n", *config)
    assert re.search(r"quota\.gpu_hours: \d+ GPU-hours predicted, 100 allowed", said)


def test_a_run_without_the_pictures_that_only_people_can_get_starts_nothing(checkout):
    said = refused(checkout, "--cores", "2", "--config", "study=llava-1.5-7b")
    assert (
        "config/studies/llava-1.5-7b.yaml: tuning.data.pictures.ocr_vqa/images.path: "
        "data/ocr_vqa/images: no such folder" in said
    )
    assert "nothing has been started" in said


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            "backbone={language_model: {revision: null}}",
            "backbone.language_model.revision: required: the commit of lmsys/vicuna-7b-v1.5",
        ),
        (
            "tuning={data: {revision: main}}",
            "tuning.data.revision: must be a commit, 40 hexadecimal digits",
        ),
        (
            "backbone={language_model: {id: google/gemma-2b}}",
            "google/gemma-2b is gated: ask for access on https://huggingface.co/google/gemma-2b, "
            "then give a token",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_had_is_one_message(checkout, monkeypatch, config, message):
    monkeypatch.setenv("HF_HOME", str(checkout.folder / "no-token-here"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    said = refused(checkout, "-n", "--config", "study=llava-1.5-7b", config)
    assert message in said


def test_a_gated_model_is_named_with_what_to_do_where_a_token_is_given(checkout, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    config = ("study=llava-1.5-7b", "backbone={language_model: {id: google/gemma-2b}}")
    done = checkout.snakemake("-n", "--quiet", "rules", "--config", *config)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(
        r"google/gemma-2b at 3321f76e3f52: .*; .* is gated: ask for access", done.stdout
    )
