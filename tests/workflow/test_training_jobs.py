"""Training jobs as the workflow starts them: on two devices, on conversations from elsewhere."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from PIL import Image

TUNED = "results/smoke/models/full/seed-0"
COLOURS = ["red", "green", "blue", "white"]


def losses(folder):
    return pq.read_table(folder / TUNED / "training.parquet").column("loss").to_pylist()


@pytest.mark.slow
def test_a_job_on_two_devices_trains_as_one_on_one_does(fresh, smoke_run):
    done = fresh.snakemake(
        "--cores", "2", "--config", "study=smoke",
        "compute={devices: 2, parallel: fsdp}", "--", TUNED,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert losses(fresh.folder) == pytest.approx(losses(smoke_run.folder), abs=1e-4)
    live = pq.read_table(fresh.folder / "results/smoke/logs/tune/full/seed-0.parquet")
    assert live.column("tokens_per_second").null_count == 0


@pytest.mark.slow
def test_a_job_trains_on_llavas_json_and_a_folder_of_pictures(fresh):
    pictures = fresh.folder / "pictures"
    pictures.mkdir()
    entries = []
    for row in range(9):
        Image.new("RGB", (30, 20 + row), COLOURS[row % 4]).save(pictures / f"{row}.png")
        turns = [
            {"from": "human", "value": "<image>\nWhich kind of thing is this?"},
            {"from": "gpt", "value": "round"},
        ]
        entries.append({"id": f"r{row}", "image": f"{row}.png", "conversations": turns})
    (fresh.folder / "llava.json").write_text(json.dumps(entries))
    elsewhere = "tuning={data: {source: llava, file: llava.json, pictures: pictures}}"
    done = fresh.snakemake("--cores", "2", "--config", "study=smoke", elsewhere, "--", TUNED)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "import_instruct" in done.stdout
    found = losses(fresh.folder)
    assert len(found) == 6 and found[-1] < found[0]
    again = fresh.snakemake("--cores", "2", "--config", "study=smoke", elsewhere, "--", TUNED)
    assert "Nothing to be done" in again.stdout
    (pictures / "4.png").unlink()
    changed = elsewhere.replace("pictures}", "pictures}, learning_rate: 2e-3")
    broken = fresh.snakemake("--cores", "2", "--config", "study=smoke", changed, "--", TUNED)
    assert broken.returncode != 0
    assert "the picture 4.png is missing in pictures" in broken.stdout


def test_a_dry_run_names_the_job_that_reads_conversations_from_elsewhere(checkout):
    (checkout.folder / "llava.json").write_text("[]")
    elsewhere = "align={data: {source: llava, file: llava.json, pictures: .}}"
    shown = checkout.snakemake("-n", "--config", "study=smoke", elsewhere)
    assert shown.returncode == 0, shown.stdout[-4000:]
    assert "import_align" in shown.stdout
