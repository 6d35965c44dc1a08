"""Where jobs go, and what a run is told that has no place for one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from layersight.cluster.partitions import ClusterError, Site
from layersight.cluster.placing import Ask, check, choose, place

PARTITIONS = {
    "cpu": {"max_runtime": "2h", "max_mem_mb": 1000, "max_threads": 4},
    "a100": {
        "max_gpu": 4, "max_runtime": "1h", "max_mem_mb": 2000, "available_gpu_models": ["a100"],
    },
    "a100-80gb": {"max_gpu": 8, "max_runtime": "4h", "max_mem_mb": 9000},
}  # fmt: skip
KINDS = {"a100": {"memory_gb": 40}, "a100-80gb": {"memory_gb": 80}}


def site(**gpus: Any) -> Site:
    return Site.model_validate(
        {"path": "partitions.yaml", "partitions": PARTITIONS, "gpus": {"kinds": KINDS, **gpus}},
        strict=False,
    )


def sbatch(resources: dict[str, Any], threads: int = 2) -> str:
    """Return what the plugin itself would submit a job with such resources by."""
    given = {key: value for key, value in resources.items() if value is not None} | {"tasks": 0}

    class Resources(SimpleNamespace):
        def get(self, name: str, default: Any = None) -> Any:
            return getattr(self, name, default)

    job = SimpleNamespace(resources=Resources(**given), threads=threads)
    params = {
        "run_uuid": "run", "slurm_logfile": "log", "comment_str": "rule", "account": "",
        "partition": f"-p {given.get('slurm_partition')}", "workdir": None,
    }  # fmt: skip
    return get_submit_command(job, params) + set_gres_string(job)


def test_a_job_goes_to_the_first_partition_that_it_fits_into():
    assert choose(site(), Ask("a", mem_mb=1000, runtime=120, threads=4)) == "cpu"
    assert choose(site(), Ask("a", gpus=4, mem_mb=2000, runtime=60)) == "a100"
    assert choose(site(), Ask("a", gpus=5)) == "a100-80gb"
    assert choose(site(), Ask("a", gpus=1, mem_mb=2001)) == "a100-80gb"
    assert choose(site(), Ask("a", gpus=1, runtime=61)) == "a100-80gb"


def test_a_job_that_needs_more_than_40_gb_of_one_gpu_goes_to_those_with_80():
    assert choose(site(), Ask("a", gpus=1, gpu_memory_mb=40_000)) == "a100"
    assert choose(site(), Ask("a", gpus=1, gpu_memory_mb=40_001)) == "a100-80gb"
    assert choose(site(), Ask("a", gpus=1, gpu_memory_mb=80_001)) is None


def test_a_job_without_a_gpu_stays_out_of_gpu_partitions_unless_there_are_no_others():
    assert choose(site(), Ask("a", mem_mb=1500)) is None
    only = Site.model_validate({"path": "p", "partitions": {"a100": {"max_gpu": 4}}}, strict=False)
    assert choose(only, Ask("a", mem_mb=1500)) == "a100"


def test_the_plugin_gets_gpus_at_one_site_and_gres_at_another():
    ask = Ask("a", gpus=2, mem_mb=100, runtime=10)
    by_gpus = sbatch(place(site(), ask, ask))
    assert by_gpus.endswith("--gpus=2") and "--nodes=1" in by_gpus and "-p a100 " in by_gpus
    assert "ntasks" not in by_gpus and "--cpus-per-task=2" in by_gpus
    assert sbatch(place(site(name_model=True), ask, ask)).endswith("--gpus=a100:2")
    by_gres = sbatch(place(site(request="gres"), ask, ask))
    assert by_gres.endswith("--gres=gpu:2") and "--gpus" not in by_gres and "ntasks" not in by_gres
    named = sbatch(place(site(request="gres", name_model=True), ask, ask))
    assert named.endswith("--gres=gpu:a100:2")


@pytest.mark.parametrize("request_", ["gpus", "gres"])
def test_a_job_without_a_gpu_asks_for_none_at_either_site(request_):
    ask = Ask("a", mem_mb=100, runtime=10)
    said = sbatch(place(site(request=request_, name_model=True), ask, ask))
    assert "gpu" not in said and "gres" not in said and "--ntasks=1" in said


def test_a_retry_asks_for_more_and_moves_to_a_larger_partition():
    first = Ask("a", gpus=1, mem_mb=1500, runtime=50)
    again = Ask("a", gpus=1, mem_mb=2500, runtime=100)
    assert place(site(), first, first)["slurm_partition"] == "a100"
    placed = place(site(), again, first)
    assert (placed["slurm_partition"], placed["mem_mb"], placed["runtime"]) == (
        "a100-80gb", 2500, 100,
    )  # fmt: skip


def test_a_retry_beyond_every_partition_gets_what_the_largest_allows():
    first = Ask("a", gpus=1, mem_mb=5000, runtime=200)
    again = Ask("a", gpus=1, mem_mb=10_000, runtime=400)
    placed = place(site(), again, first)
    assert (placed["slurm_partition"], placed["mem_mb"], placed["runtime"]) == (
        "a100-80gb", 9000, 240,
    )  # fmt: skip


def test_on_one_machine_jobs_have_no_partition_and_count_gpus():
    ask = Ask("a", gpus=2, mem_mb=10.4, runtime=7)
    placed = place(None, ask, ask)
    assert placed.pop("gpu") == 2 and placed.pop("mem_mb") == 10 and placed.pop("runtime") == 7
    assert set(placed.values()) == {None}


def refusal(cluster: Site | None, *asks: Ask) -> str:
    with pytest.raises(ClusterError) as error:
        check(cluster, [(ask, choose(cluster, ask) if cluster else None) for ask in asks])
    return str(error.value)


def test_gpu_jobs_need_a_partition_file():
    check(None, [(Ask("report"), None)])
    told = refusal(None, Ask("report"), Ask("align", gpus=1), Ask("tune", gpus=2))
    assert "align asks for 1 GPU, but no partition file" in told
    assert "slurm-partition-config" in told and "(and so for 1 more)" in told


def test_a_file_that_names_no_gpu_partition_is_refused_where_jobs_want_one():
    plain = Site.model_validate({"path": "p.yaml", "partitions": {"cpu": {}}}, strict=False)
    check(plain, [(Ask("report"), "cpu")])
    assert refusal(plain, Ask("align", gpus=2)).startswith(
        "p.yaml: align asks for 2 GPUs, but no partition has any: give the one with GPUs max_gpu"
    )


@pytest.mark.parametrize(
    ("ask", "beyond"),
    [
        (Ask("tune full 0", gpus=9), "9 of at most 8 GPUs on one node"),
        (Ask("tune full 0", gpus=1, mem_mb=9001), "9001 of at most 9000 MB of memory"),
        (Ask("tune full 0", gpus=1, runtime=241), "241 of at most 240 minutes"),
        (Ask("tune full 0", gpus=1, gpu_memory_mb=1e5), "100 of at most 80 GB of memory on one"),
        (Ask("tune full 0", threads=5), "5 of at most 4 threads"),
    ],
)
def test_a_job_too_large_for_the_largest_partition_is_named_with_what_is_too_much(ask, beyond):
    told = refusal(site(), ask)
    assert "partitions.yaml: tune full 0 fits into no partition" in told and beyond in told
    assert told.endswith("nothing has been started")


def test_a_partition_given_on_the_command_line_is_checked_too():
    with pytest.raises(ClusterError, match="its partition a100, where .* 2500 of at most 2000"):
        check(site(), [(Ask("a", gpus=1, mem_mb=2500), "a100")])
    check(site(), [(Ask("a", gpus=1, mem_mb=2500), "another-of-the-site")])


def test_room_for_a_slower_machine_is_cut_to_the_longest_time_that_a_partition_allows():
    ask = Ask("a", gpus=1, runtime=400, least_runtime=200)
    placed = place(site(), ask, ask)
    assert (placed["slurm_partition"], placed["runtime"]) == ("a100-80gb", 240)
    again = Ask("a", gpus=1, runtime=800, least_runtime=200)
    assert place(site(), again, ask)["runtime"] == 240
    longer = Ask("a", gpus=1, runtime=400, least_runtime=241)
    assert place(site(), longer, longer)["slurm_partition"] is None


def test_a_job_with_room_goes_where_all_of_it_fits():
    ask = Ask("a", gpus=1, runtime=90, least_runtime=50)
    assert place(site(), ask, ask)["slurm_partition"] == "a100-80gb"
    assert place(site(), ask, ask)["runtime"] == 90
