"""Where the jobs of a study go on a cluster, as its dry run lists them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from tests.workflow.conftest import ROOT
from tests.workflow.test_toolbox import ASKED

from layersight.cost.rules import ON_GPU, RULES
from layersight.provenance.code import CodeIndex

EVERYTHING = (
    *(text.replace("{density", "{device: cuda, density") for text in ASKED),
    "attention={items: 4, new_tokens: 2}",
)
NEIGHBOURS = {"find_neighbours", "pool_neighbours"}
"""Rules that compute on a GPU where `geometry.device` is `cuda`."""
WHERE_THERE_IS_ONE = {"take_released"}
"""Rules that ask for no GPU and take one that is there: few pictures, of few encoders."""


@dataclass(frozen=True)
class Line:
    """One line of the list: a job."""

    rule: str
    partition: str
    gpus: int
    threads: int


def listed(told: str) -> list[Line]:
    """Read the list of what jobs ask for."""
    table = told[told.index("job  ") :].partition("\nStudy ")[0]
    found = []
    for row in table.splitlines()[1:]:
        # The columns of GPUs are empty for jobs without one.
        job, partition, *numbers = re.split(r"  +", row.strip())
        gpus = int(numbers.pop(0)) if len(numbers) == 7 else 0
        threads = int(numbers[1] if gpus else numbers[0])
        found.append(Line(job.split()[0], partition, gpus, threads))
    return found


def priced_as(rule: str) -> str:
    """The rules of the base model are others with another name."""
    return rule.replace("_base_", "_")


def rules_that_choose_a_device() -> set[str]:
    """Rules whose script reaches the library's choice of a device."""
    found = set()
    index = CodeIndex()
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        pattern = r'^ *rule (\w+):(?:(?!^ *rule ).)*?script:\s+"\.\./scripts/(\w+\.py)"'
        for rule, script in re.findall(pattern, path.read_text(), re.MULTILINE | re.DOTALL):
            code = index.code(ROOT / "workflow/scripts" / script)
            if "layersight.models.device:torch_device" in code.definitions:
                found.add(rule)
    return found


@pytest.fixture(scope="module")
def lines(checkout) -> list[Line]:
    """What a study with everything on asks for."""
    done = checkout.snakemake("--profile", "slurm", "-n", *EVERYTHING)
    assert done.returncode == 0, done.stdout[-4000:]
    return listed(done.stdout)


def test_every_rule_that_computes_on_a_gpu_goes_to_a_partition_with_gpus(lines):
    expected = ON_GPU | NEIGHBOURS
    assert {priced_as(line.rule) for line in lines} >= expected
    on_gpu = [line for line in lines if priced_as(line.rule) in expected]
    assert {(line.gpus, line.partition) for line in on_gpu} == {(1, "a100")}


def test_every_other_rule_stays_out_of_partitions_with_gpus(lines):
    others = [line for line in lines if priced_as(line.rule) not in ON_GPU | NEIGHBOURS]
    assert len(others) > 20
    assert {(line.gpus, line.partition) for line in others} == {(0, "cpu")}


def test_rules_that_choose_a_device_are_those_that_ask_for_a_gpu():
    found = rules_that_choose_a_device()
    assert found and found & set(RULES) == ON_GPU | WHERE_THERE_IS_ONE


def test_a_job_asks_for_what_the_study_says_and_not_for_what_the_login_node_has(checkout):
    config = ("--config", "study=smoke", "compute={devices: 4, device: cuda, training_threads: 48}")
    done = checkout.snakemake("--profile", "slurm", "-n", *config)
    found = {line.rule: line for line in listed(done.stdout)}
    assert (found["tune"].gpus, found["tune"].threads) == (4, 48)
    assert (found["align"].gpus, found["capture_activations"].gpus) == (4, 1)
    # Searching on a GPU is a wish of its own.
    assert (found["find_neighbours"].gpus, found["find_neighbours"].partition) == (0, "cpu")
