"""Pruning lists what a study no longer names, and removes it only when asked to."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from layersight import prune
from layersight.errors import UserError
from layersight.storage.scratch import place_large

HEAD = "output_file\tdate\trule\tlog-file(s)\tstatus\tplan\n"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two variants, one of which the study names no longer."""
    monkeypatch.chdir(tmp_path)
    root = Path("results/mini")
    for variant in ("full", "lora"):
        for name in (
            f"models/{variant}/seed-0/connector.safetensors",
            f"models/{variant}/seed-0/manifest.json",
            f".kept/models/{variant}/seed-0/abc/content/connector.safetensors",
            f"patching/{variant}/seed-0/items.parquet",
            f"patching/{variant}/seed-0/manifest.json",
            f"logs/tune/{variant}/seed-0.log",
            f"timings/tune/{variant}/seed-0.tsv",
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
        record = root / f".records/tune/{variant}/0.json"
        record.parent.mkdir(parents=True)
        output = f"results/mini/models/{variant}/seed-0"
        record.write_text(
            json.dumps(
                {"settings": {}, "definitions": {}, "packages": {}, "inputs": {}, "parts": None}
                | {"outputs": {output: "digest"}}
            )
        )
    (root / ".digests.json").write_text("{}")
    (root / "study.yaml").write_text("name: mini")
    return root


def summary(*variants: str) -> list[str]:
    lines = [HEAD, "results/mini/study.yaml\t-\tresolved_study\t\tok\tno update\n"]
    for variant in variants:
        for output in (f"models/{variant}/seed-0", f"patching/{variant}/seed-0/items.parquet"):
            lines.append(
                f"results/mini/{output}\t-\ttune\tresults/mini/logs/tune/{variant}/seed-0.log"
                "\tok\tno update\n"
            )
    return lines


def test_nothing_is_listed_while_the_study_names_all(results):
    assert prune.unnamed(results, prune.named_paths(summary("full", "lora"))) == []


def test_all_that_belongs_to_a_variant_is_listed_once_it_is_not_named(results):
    found = prune.unnamed(results, prune.named_paths(summary("full")))
    assert {str(path.relative_to(results)) for path in found} == {
        "models/lora",
        ".kept/models/lora",
        "patching/lora",
        "logs/tune/lora",
        "timings/tune/lora",
        ".records/tune/lora/0.json",
    }


@pytest.mark.parametrize("delete", [False, True])
def test_removing_is_asked_for(results, monkeypatch, capsys, delete):
    arguments = ["prune", str(results), *(["--delete"] if delete else [])]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(summary("full"))))
    prune.main()
    assert "models/lora" in capsys.readouterr().out
    assert (results / "models/lora").exists() is not delete
    assert (results / "models/full/seed-0/connector.safetensors").is_file()
    assert (results / "patching/full/seed-0/manifest.json").is_file()


def test_what_lies_on_a_scratch_file_system_is_pruned_there(results, tmp_path):
    place_large(results, tmp_path / "scratch")
    home = (results / "activations").resolve().parent
    lines = summary("full")
    for variant in ("full", "lora"):
        (home / f"activations/{variant}/seed-0/texts").mkdir(parents=True)
        (home / f".kept/activations/{variant}/seed-0/texts/abc").mkdir(parents=True)
    lines.append("results/mini/activations/full/seed-0/texts\t-\tcapture\t\tok\tno update\n")
    found = prune.unnamed(results, prune.named_paths(lines))
    assert {path for path in found if "activations" in path.parts} == {
        results / "activations/lora",
        home / ".kept/activations/lora",
    }


@pytest.mark.parametrize("text", ["", "Error: no such study\n", HEAD])
def test_without_a_summary_nothing_is_taken_for_unnamed(text):
    with pytest.raises(UserError):
        prune.named_paths(text.splitlines(keepends=True))
