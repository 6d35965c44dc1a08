"""What a job looks at before it computes: count, name and memory of its GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from layersight.cluster import gpus
from layersight.cluster.gpus import (
    Device,
    check_devices,
    check_process,
    check_start,
    check_visible,
    requested,
)
from layersight.cluster.partitions import VARIABLE, ClusterError, Kind

A100 = Device("NVIDIA A100-SXM4-40GB", 42.4)
KIND = Kind(memory_gb=40, device="A100")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@pytest.fixture
def in_slurm(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURMD_NODENAME", "gpu1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")


@pytest.mark.parametrize(
    ("resources", "count"),
    [
        ({"gpu": 2}, 2), ({"gpu": 0}, 0), ({}, 0), ({"gres": "gpu:3"}, 3),
        ({"gres": "gpu:a100:4"}, 4), ({"gres": "nvme:1"}, 0),
    ],
)  # fmt: skip
def test_the_count_is_read_from_either_way_of_asking(resources, count):
    assert requested(resources) == count


def test_fewer_gpus_than_asked_for_are_named_with_the_node(in_slurm):
    check_visible(2, "0,1")
    check_visible(2, None)
    told = r"2 GPU\(s\) asked for, but Slurm gave this job 1 \(CUDA_VISIBLE_DEVICES=3\) on gpu1"
    with pytest.raises(ClusterError, match=told):
        check_visible(2, "3")
    with pytest.raises(ClusterError, match="gave this job 0"):
        check_visible(1, "NoDevFiles")
    with pytest.raises(ClusterError, match=r"2 GPU\(s\) asked for, but torch sees 1 on gpu1"):
        check_devices(2, [A100], KIND)


def test_another_model_or_less_memory_than_the_file_says_is_named(in_slurm):
    check_devices(1, [A100], KIND)
    check_devices(1, [Device("NVIDIA A100-PCIE-40GB", 39.4)], KIND)
    check_devices(1, [Device("Tesla V100", 16.9)], Kind())
    with pytest.raises(ClusterError, match="is a Tesla V100-SXM2-16GB, but .* says A100"):
        check_devices(1, [Device("Tesla V100-SXM2-16GB", 16.9)], KIND)
    with pytest.raises(ClusterError, match="has 42 GB, but the partition file says 80 GB"):
        check_devices(1, [A100], Kind(memory_gb=80))


def test_what_is_expected_stands_in_the_partition_file_of_the_run(in_slurm, monkeypatch):
    root = Path(__file__).parents[3]
    monkeypatch.setenv(VARIABLE, str(root / "profiles/slurm/partitions.yaml"))
    assert gpus.expected({"slurm_partition": "a100-80gb"}) == Kind(memory_gb=80, device="A100")
    assert gpus.expected({"slurm_partition": "cpu"}) == Kind()
    monkeypatch.setenv("SLURM_JOB_PARTITION", "a100")
    assert gpus.expected({}) == Kind(memory_gb=40, device="A100")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert gpus.expected({"slurm_partition": "a100"}) == Kind()


@no_gpu
def test_a_pretended_gpu_is_no_error_unless_the_study_insists_on_one(in_slurm):
    check_start({"gpu": 1}, "cpu")
    if not gpus.DRIVER.exists():
        check_start({"gpu": 1}, "auto")
    with pytest.raises(ClusterError, match="torch sees 0"):
        check_start({"gpu": 1}, "cuda")


@no_gpu
def test_a_node_with_a_driver_but_no_gpu_for_torch_is_an_error(in_slurm, monkeypatch, tmp_path):
    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    with pytest.raises(ClusterError, match="torch sees 0 on gpu1: is the driver as new"):
        check_start({"gpu": 1}, "auto")


def test_slurm_giving_too_few_is_an_error_even_where_gpus_are_pretended(in_slurm):
    with pytest.raises(ClusterError, match="gave this job 1"):
        check_start({"gpu": 2}, "auto")


def test_a_job_that_asks_for_none_looks_at_none(in_slurm, monkeypatch):
    monkeypatch.setattr(gpus, "DRIVER", Path("/"))
    check_start({"gpu": 0}, "cuda")


@no_gpu
def test_processes_that_train_together_compute_on_the_cpu_only_if_the_study_lets_them(in_slurm):
    check_process(2, "cpu")
    check_process(2, "auto")
    told = r"training on 2 devices, but torch sees 0 GPU\(s\) on gpu1.*CUDA_VISIBLE_DEVICES=0"
    with pytest.raises(ClusterError, match=told):
        check_process(2, "cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_more_processes_than_gpus_are_refused_by_each_of_them():
    check_process(torch.cuda.device_count(), "auto")
    with pytest.raises(ClusterError, match="compute.devices: training on 99 devices"):
        check_process(99, "auto")
    name = torch.cuda.get_device_name(0)
    check_devices(1, gpus.seen(), Kind(device=name))
    with pytest.raises(ClusterError, match=f"is a {name}, but the partition file says A100X"):
        check_devices(1, gpus.seen(), Kind(device="A100X"))
