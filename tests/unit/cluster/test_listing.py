"""What jobs ask for, a line for those that ask alike."""

from __future__ import annotations

from layersight.cluster.listing import listing
from layersight.cluster.placing import Ask


def test_jobs_of_a_rule_that_ask_alike_share_a_line_with_the_most_that_one_needs():
    jobs = [
        ("tune", Ask("tune a", gpus=8, mem_mb=64_000, runtime=90, threads=16), "a100"),
        ("tune", Ask("tune b", gpus=8, mem_mb=32_000, runtime=600, threads=16), "a100"),
        ("tune", Ask("tune c", gpus=8, mem_mb=90_000, runtime=60, threads=16), "a100-80gb"),
        ("make_report", Ask("make_report", mem_mb=900, runtime=10), "cpu"),
        ("figures", Ask("figures", mem_mb=900, runtime=10), None),
    ]
    head, columns, *lines = listing(jobs).splitlines()
    assert head == "What jobs ask for, at their first attempt:"
    assert columns.split() == ["rule", "jobs", "GPUs", "threads", "memory", "time", "partition"]
    assert [line.split() for line in lines] == [
        ["tune", "2", "8", "16", "64.0", "GB", "10.0", "h", "a100"],
        ["tune", "1", "8", "16", "90.0", "GB", "60", "min", "a100-80gb"],
        ["make_report", "1", "1", "900", "MB", "10", "min", "cpu"],
        ["figures", "1", "1", "900", "MB", "10", "min"],
    ]


def test_without_jobs_nothing_is_said():
    assert listing([]) == ""
