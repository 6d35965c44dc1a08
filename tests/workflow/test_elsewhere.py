"""Both stages trained on conversations of the hub, taken from the user's own cache of it."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest
import yaml
from PIL import Image
from tests.unit.data.test_elsewhere import COMMIT, NAME, as_hub_cache

pytestmark = pytest.mark.slow  # runs the workflow

COLOURS = ("red", "green", "blue", "black")


def write_data_set(cache: Path, scratch: Path) -> None:
    """Twelve conversations about pictures in an archive of the data set and in a folder."""
    scratch.mkdir()
    rows, archive = [], scratch / "images.zip"
    (scratch / "mine").mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        for number in range(12):
            colour = COLOURS[number % 4]
            picture = scratch / f"{number}.png"
            Image.new("RGB", (32, 24), colour).save(picture)
            if number % 2:
                picture.rename(scratch / "mine" / picture.name)
            else:
                file.write(picture, f"train/{picture.name}")
            place = "mine" if number % 2 else "zipped"
            said = [
                {"from": "human", "value": "Which colour is this?\n<image>"},
                {"from": "gpt", "value": colour},
            ]
            row = {"id": f"{number}", "image": f"{place}/{picture.name}", "conversations": said}
            rows.append(row)
    files = {"talks.json": json.dumps(rows).encode(), "images.zip": archive.read_bytes()}
    as_hub_cache(files, cache)


def with_talks(checkout, scratch: Path, rows: int = 12) -> None:
    data = {
        "source": "hub", "id": NAME, "revision": COMMIT, "file": "talks.json", "rows": rows,
        "megabytes": 1,
        "pictures": {
            "zipped": {"archive": "images.zip", "inside": "train", "megabytes": 1},
            "mine": {"path": str(scratch / "mine")},
        },
    }  # fmt: skip
    stage = {"steps": 2, "batch_size": 4, "data": data}
    study = {"extends": "smoke", "name": "talks", "align": stage, "tuning": stage}
    path = checkout.folder / "config/studies/talks.yaml"
    path.write_text(yaml.safe_dump(study))


@pytest.fixture
def offline(fresh, tmp_path, monkeypatch):
    """A checkout on a machine without network, where the hub's cache has the data set."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_data_set(tmp_path / "hf/hub", tmp_path / "scratch")
    with_talks(fresh, tmp_path / "scratch")
    return fresh


def test_stages_train_on_them_and_a_second_run_fetches_nothing(offline, tmp_path):
    done = offline.snakemake("models", "--cores", "2", study="talks")
    assert done.returncode == 0, done.stdout[-6000:]
    assert "images.zip of someone/talks at 89abcdef0123" in done.stdout
    results = offline.folder / "results/talks"
    for part in ("models/aligned", "models/full/seed-0"):
        manifest = json.loads((results / part / "manifest.json").read_text())
        names = [Path(name).name for name in manifest["inputs"]]
        assert any(name.endswith(".parquet") for name in names), manifest["inputs"]
    (tmp_path / "hf").rename(tmp_path / "gone")
    again = offline.snakemake("models", "--cores", "2", study="talks")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout


def test_a_mistake_in_what_was_fetched_is_one_message(offline, tmp_path):
    with_talks(offline, tmp_path / "scratch", rows=13)
    done = offline.snakemake("models", "--cores", "2", study="talks")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    said = " ".join(done.stdout.split())
    assert "has 12 conversations, but 13 were published" in said
    (tmp_path / "scratch/mine").rename(tmp_path / "scratch/elsewhere")
    done = offline.snakemake("models", "--cores", "2", study="talks")
    assert done.returncode != 0
    assert re.search(r"align\.data\.pictures\.mine\.path: .*: no such folder", done.stdout)
    assert "nothing has been started" in done.stdout


def test_without_network_and_cache_the_asset_that_is_missing_is_named(offline, tmp_path):
    (tmp_path / "hf").rename(tmp_path / "gone")
    done = offline.snakemake("models", "--cores", "2", study="talks")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    said = " ".join(done.stdout.split())
    assert "someone/talks: could not be fetched from the hub" in said
    assert f"hf download someone/talks --repo-type dataset --revision {COMMIT}" in said
