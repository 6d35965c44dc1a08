"""The partition file: what it may hold, and one message for what it may not."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake_executor_plugin_slurm.partitions import PartitionLimits, read_partition_file
from tests.conftest import ROOT

from layersight.cluster.partitions import ClusterError, Kind, Limits, minutes, read_site

SHIPPED = ROOT / "profiles/slurm/partitions.yaml"


def written(folder: Path, data: Any) -> Path:
    path = folder / "partitions.yaml"
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def refusal(folder: Path, data: Any) -> str:
    path = written(folder, data)
    with pytest.raises(ClusterError) as error:
        read_site(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_limits_have_the_names_that_the_plugin_reads():
    assert set(Limits.model_fields) == {field.name for field in dataclasses.fields(PartitionLimits)}


@pytest.mark.parametrize("name", ["profiles/slurm/partitions.yaml", "tests/slurm/partitions.yaml"])
def test_the_plugin_reads_our_files_as_we_do(name):
    ours, theirs = read_site(ROOT / name), read_partition_file(ROOT / name)
    assert list(ours.partitions) == [partition.name for partition in theirs]
    for limits, partition in zip(ours.partitions.values(), theirs, strict=True):
        assert limits.minutes == partition.limits.max_runtime
        assert limits.max_mem_mb == partition.limits.max_mem_mb
        assert limits.max_threads == partition.limits.max_threads
        assert limits.max_gpu == partition.limits.max_gpu


def test_the_example_for_gres_sites_in_the_comments_is_a_partition_file(tmp_path):
    comment = SHIPPED.read_text().partition("and --gres:\n#\n")[2]
    lines = [line.removeprefix("#").removeprefix("   ") for line in comment.splitlines()]
    site = read_site(written(tmp_path, "\n".join(lines)))
    assert list(site.partitions) == ["batch", "gpu"]
    assert site.gpus.request == "gres" and site.gpus.name_model
    assert site.kind("gpu") == Kind(memory_gb=40, device="A100")


def test_the_profile_names_the_file_beside_it():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert (ROOT / "profiles/slurm" / profile["slurm-partition-config"]).is_file()
    assert "set-resources" not in profile and "slurm_partition" not in str(profile)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("2-00:00:00", 2880), ("12h", 720), (90, 90), ("01:30:00", 90), (None, math.inf)],
)
def test_times_are_read_in_every_notation(written, expected):
    assert minutes(written) == expected


def test_a_file_that_is_not_there_is_named_with_the_place_to_give_it(tmp_path):
    with pytest.raises(ClusterError, match=r"none\.yaml.*slurm-partition-config"):
        read_site(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a: [", "not readable as YAML"),
        ({"cpu": {}}, "partitions: must map names"),
        ({"partitions": {}}, "partitions: "),
        ({"partitions": {"cpu": {"max_tiem": 3}}}, "partitions.cpu.max_tiem: unknown key; known: "),
        ({"partitions": {"cpu": {"max_runtime": "soon"}}}, "'soon' is no time"),
        ({"partitions": {"cpu": {"max_mem_mb": -1}}}, "partitions.cpu.max_mem_mb: "),
        ({"partitions": {"cpu": None}, "gpus": {"request": "gpu"}}, "gpus.request: "),
        ({"partitions": {"cpu": None}, "gpus": {"flag": "gres"}}, "known: request, name_model"),
        (
            {"partitions": {"cpu": None}, "gpus": {"kinds": {"cpu": {"memory_gb": 40}}}},
            "gpus.kinds.cpu: there is no partition cpu with max_gpu",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_key(tmp_path, data, message):
    assert message in refusal(tmp_path, data)
