"""Damaged inputs of real jobs: one message, a failed run, and nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.workflow.conftest import Checkout, copy_of_repository

CONFIG = ("--config", "study=smoke")
CORES = ("--cores", "1")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which everything that tuning reads is there."""
    made = copy_of_repository(tmp_path_factory.mktemp("damage") / "layersight")
    done = made.snakemake("--cores", "2", "--until", "align")
    assert done.returncode == 0, done.stdout[-3000:]
    return made


def refused(made: Checkout, rule: str, message: str, *arguments: str) -> str:
    # No other rule may run: the one that makes a damaged file would mend it first.
    done = made.snakemake(*arguments, *CORES, "--allowed-rules", rule, *CONFIG)
    assert done.returncode != 0, done.stdout[-3000:]
    assert message in done.stdout, done.stdout[-3000:]
    assert f"\n{rule}: " in done.stdout
    # Snakemake's own account of a failed script is no traceback of ours.
    assert "Traceback" not in done.stdout
    left = [path for path in made.folder.rglob("*") if ".part-" in path.name]
    assert left == []
    return done.stdout


def damaged(made: Checkout, folder: Path, file: str) -> tuple[Checkout, Path]:
    copy = Checkout(Path(shutil.copytree(made.folder, folder / "layersight", symlinks=True)))
    return copy, copy.folder / "results/smoke" / file


def test_a_truncated_table_of_conversations_stops_tuning(prepared, tmp_path):
    made, path = damaged(prepared, tmp_path, "data/instruct.parquet")
    path.write_bytes(path.read_bytes()[:-200])
    target = "results/smoke/models/full/seed-0"
    refused(made, "tune", "instruct.parquet: not a readable Parquet file", target)
    assert not (made.folder / target).exists()


def test_a_tampered_picture_stops_the_features(prepared, tmp_path):
    made, path = damaged(prepared, tmp_path, "data/images.parquet")
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[5]["image"]["bytes"] = rows[5]["image"]["bytes"][:60]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    features = "results/smoke/features/image_features.safetensors"
    (made.folder / features).unlink()
    told = refused(made, "features", "is damaged or no picture", features)
    assert not (made.folder / features).exists()
    assert f"picture {rows[5]['image_id']}: " in told


def test_a_language_model_that_lacks_a_tensor_stops_tuning(prepared, tmp_path):
    from safetensors.torch import load_file, save_file

    made, folder = damaged(prepared, tmp_path, "models")
    (path,) = folder.rglob("language_model/model.safetensors")
    tensors = load_file(path)
    del tensors["model.norm.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    target = "results/smoke/models/lora-1-3/seed-0"
    refused(made, "tune", "the tensor model.norm.weight is missing", target)
    assert not (made.folder / target).exists()
