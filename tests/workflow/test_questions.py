"""Studies whose probe sets and tasks are made of questions from elsewhere, with real pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image, ImageDraw

pytestmark = pytest.mark.slow  # runs the workflow

COLOURS = ("red", "green", "blue", "black", "orange", "purple")
TASKS = {"discs", "discs_text", "letters_text"}


def write_questions(folder: Path) -> None:
    """Thirty questions about pictures with captions, and twelve with choices and without."""
    (folder / "pictures").mkdir(parents=True)
    discs = []
    for number in range(30):
        colour = COLOURS[number % 6]
        picture = Image.new("RGB", (48, 32) if number % 3 else (40, 40), "white")
        ImageDraw.Draw(picture).ellipse((4 + number % 5, 4, 28 + number % 7, 28), fill=colour)
        picture.save(folder / f"pictures/{number}.png")
        counts = number % 2
        discs.append(
            {
                "id": f"q{number}",
                "question": "How many discs are there?" if counts else "What colour is the disc?",
                "answers": ["one"] if counts else [colour],
                "kind": "number" if counts else "colour",
                "image": f"{number}.png",
                "captions": [f"A {colour} disc, number {number}.", f"A disc {number} on white."],
            }
        )
    letters = [
        {"id": n, "question": f"Which is {n}?", "choices": [f"x{n}", f"y{n}", f"z{n}"],
         "answer": n % 3, "kind": "ab"[n % 2]}
        for n in range(12)
    ]  # fmt: skip
    for name, rows in (("discs", discs), ("letters", letters)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def study_of(folder: Path) -> dict[str, object]:
    return {
        "extends": "smoke", "name": "asked",
        "questions": {
            "discs": {
                "source": "file", "form": "jsonl", "path": str(folder / "discs.jsonl"),
                "items": 26, "rows": 30, "inputs": ["image", "text"], "max_new_tokens": 3,
                "pictures": {"path": str(folder / "pictures")}, "opening": "Answer:",
            },
            "letters": {
                "source": "file", "form": "jsonl", "path": str(folder / "letters.jsonl"),
                "items": 10, "inputs": ["text"], "max_new_tokens": 1,
            },
        },
        "probes": {"from": "discs", "items": 24, "style": None},
        "patching": {
            "split": "discs", "items": 4, "sweeps": [{"kind": "cumulative", "stride": 2}],
        },
        "benchmarks": {"tasks": []},
        "variants": {"full": None},
    }  # fmt: skip


@pytest.fixture
def asking(fresh, tmp_path):
    """A checkout with such a study, and the folder of its questions."""
    write_questions(tmp_path / "mine")
    path = fresh.folder / "config/studies/asked.yaml"
    path.write_text(yaml.safe_dump(study_of(tmp_path / "mine")))
    return fresh, tmp_path / "mine"


def test_a_study_of_questions_runs_to_its_report(asking):
    checkout, _ = asking
    done = checkout.snakemake("--cores", "2", study="asked")
    assert done.returncode == 0, done.stdout[-6000:]
    assert "make_benchmarks" not in done.stdout
    root = checkout.folder / "results/asked"
    probes = {path.stem: pd.read_parquet(path) for path in root.glob("data/probes/*.parquet")}
    items = pd.read_parquet(root / "data/questions/discs.parquet")["item_id"].tolist()[:24]
    assert all(table["item_id"].tolist() == items for table in probes.values()) and len(probes) == 4
    assert set(probes["pair_images"]["kind"]) == {"number", "colour"}
    assert probes["visual_questions"]["conversations"][0][-1]["value"] == "Answer:"
    scores = pd.read_parquet(root / "tables/scores.parquet")
    assert set(scores["benchmark"]) == TASKS
    assert set(scores["metric"]) == {"lenient_match", "exact_match"}
    assert set(scores[scores["subject"] == "base"]["benchmark"]) == TASKS - {"discs"}
    chance = scores.groupby("benchmark")["chance"].first()
    assert chance["letters_text"] == pytest.approx(1 / 3) and chance["discs"] == 0.0
    differences = pd.read_parquet(root / "tables/differences.parquet")
    assert set(differences["benchmark"]) == TASKS
    patched = pd.read_parquet(root / "patching/lora-1-3/seed-0/items.parquet")
    assert set(patched["benchmark"]) == {"discs"} and patched["item_id"].nunique() == 4
    page = (root / "report/index.html").read_text()
    assert "Questions from elsewhere: discs (26 of " in page and "lenient" in page
    again = checkout.snakemake("--cores", "2", study="asked")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout


def test_a_run_without_its_files_starts_nothing_and_a_dry_run_lists_them(asking):
    checkout, mine = asking
    (mine / "discs.jsonl").rename(mine / "away.jsonl")
    message = f"questions.discs.path: {mine}/discs.jsonl: no such file; name a file (jsonl)"
    planned = checkout.snakemake("-n", study="asked")
    assert planned.returncode == 0, planned.stdout[-3000:]
    assert f"size unknown; missing: {message}" in " ".join(planned.stdout.split())
    for job in ("read_questions", "join_images", "make_question_tasks", "make_probes"):
        assert job in planned.stdout
    done = checkout.snakemake("--cores", "2", study="asked")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    said = " ".join(done.stdout.split())
    assert f"{message}; nothing has been started" in said
    assert not (checkout.folder / "results").exists()


def test_a_damaged_picture_is_one_message(asking):
    checkout, mine = asking
    for picture in (mine / "pictures").iterdir():
        picture.write_bytes(b"no picture")
    done = checkout.snakemake("data", "--cores", "2", study="asked")
    assert done.returncode != 0 and "Traceback" not in done.stdout
    assert "png is damaged or no picture" in " ".join(done.stdout.split())
