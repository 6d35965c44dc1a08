"""The overview of a run's cost, and what stops one that is too dear."""

from __future__ import annotations

import pytest
from tests.conftest import ROOT
from tests.unit.test_cost import study_with

from layersight import cost
from layersight.cost.summary import StageRow, wall_seconds
from layersight.errors import StudyError, UserError
from layersight.study import Study
from layersight.study_file import load_study


@pytest.fixture(scope="module")
def mini() -> Study:
    return load_study(ROOT / "config/studies/mini.yaml")


def run_of(study: Study, *, remote: bool = False) -> list[cost.Job]:
    """Jobs of three rules: one in the cache, one that asks for a GPU, one that does not."""
    return [
        ("fetch_package", cost.Cost(10, 100, 500), 1, 0, remote),
        ("tune", cost.Cost(7200, 4000, 2000, 6000), 2, 1, remote),
        ("tune", cost.Cost(3600, 3000, 1000), 2, 1, remote),
        ("figures", cost.Cost(60, 700, 4), 2, 0, remote),
        ("all", cost.Cost(0, 0), 1, 0, remote),
    ]


def test_the_summary_adds_up_by_stage_and_leaves_the_cache_out_of_the_results(mini):
    rows = cost.summarise(run_of(mini), mini)
    assert [row.stage for row in rows] == ["assets", "models", "report"]
    models = rows[1]
    assert (models.jobs, models.cpu_seconds, models.gpu_seconds) == (2, 2 * 10_800, 0)
    assert (models.disk_mb, models.memory_mb, models.largest) == (3000, 4000, "tune")
    totals = cost.total(rows)
    assert (totals.jobs, totals.disk_mb, totals.cache_mb, totals.work_mb) == (4, 3004, 500, 6000)
    assert wall_seconds(totals, 2) == pytest.approx((10 + 21_600 + 120) / 2)
    assert wall_seconds(totals, 100) == 7200


@pytest.mark.parametrize("how", ["cluster", "cuda"])
def test_gpu_hours_are_counted_on_a_cluster_and_with_the_device_cuda_only(mini, how):
    study = study_with(mini, compute__device="cuda") if how == "cuda" else mini
    totals = cost.total(cost.summarise(run_of(study, remote=how == "cluster"), study))
    assert totals.gpu_seconds == 10_800
    assert totals.cpu_seconds == 10 + 120
    text = cost.render(cost.summarise(run_of(study, remote=how == "cluster"), study), study)
    assert "GPU h" in text and "3.0" in text and "an assumption." in text


def test_the_table_for_the_terminal_is_compact_and_says_what_is_largest(mini):
    text = cost.render(cost.summarise(run_of(mini), mini), mini, cores=2)
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert "GPU" not in text
    assert lines[0] == "Study mini, predicted:"
    total = next(line for line in lines if line.startswith("total"))
    assert "3.0 GB" in total and "4.0 GB (tune)" in total
    assert lines[-1].startswith("About 181 min on 2 cores")
    assert cost.render([], mini, cores=1).splitlines()[-1].startswith("About 1 min on 1 core,")


def test_the_peak_memory_of_every_rule_is_said(mini):
    rows = cost.summarise(run_of(mini), mini)
    text = cost.render(rows, mini, cores=2)
    said = " ".join(text[text.index("Peak memory by rule") :].split())
    assert cost.total(rows).memory_of["tune"] == 4000
    for rule, peak in cost.total(rows).memory_of.items():
        assert f"{rule} {cost.summary.size(peak)}" in said


@pytest.mark.parametrize(
    ("key", "allowed", "said"),
    [
        ("disk_gb", 2.5, "quota.disk_gb: 3 GB of disk predicted, 2.5 allowed"),
        ("gpu_hours", 1.0, "quota.gpu_hours: 2 GPU-hours predicted, 1 allowed"),
        ("cpu_hours", 0.5, "quota.cpu_hours: 10 CPU-hours predicted, 0.5 allowed"),
    ],
)
def test_a_study_over_its_quota_is_stopped_with_both_numbers(mini, key, allowed, said):
    totals = StageRow("total", 9, cpu_seconds=36_000, gpu_seconds=7200, disk_mb=3000)
    with pytest.raises(StudyError) as stopped:
        cost.check_quota(study_with(mini, **{f"quota__{key}": allowed}), totals)
    assert said in str(stopped.value)
    assert "config/studies/mini.yaml" in str(stopped.value)
    cost.check_quota(study_with(mini, **{f"quota__{key}": 11.0}), totals)
    cost.check_quota(mini, totals)


def test_a_run_without_enough_space_is_stopped_with_both_numbers(tmp_path):
    folder = tmp_path / "not" / "there yet"
    cost.check_space(folder, 1.0)
    with pytest.raises(UserError) as stopped:
        cost.check_space(folder, 4e12)
    text = str(stopped.value)
    assert str(folder) in text and "4000000.0 TB" in text and "free some space" in text
    assert not folder.exists()
