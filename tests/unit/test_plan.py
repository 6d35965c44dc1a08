"""The remaining time of a run."""

from __future__ import annotations

import json
import os
import time

import pytest

from layersight.plan import remaining, write_plan


def test_predictions_are_scaled_by_the_pace_so_far(tmp_path):
    plan = tmp_path / "plan.json"
    jobs = {str(tmp_path / name): 100.0 for name in "abcd"}
    write_plan(plan, jobs)
    data = json.loads(plan.read_text())
    data["started"] = time.time() - 100
    plan.write_text(json.dumps(data))
    done, total, seconds = remaining(plan)
    assert (done, total) == (0, 4) and seconds == pytest.approx(400)
    for name in "ab":
        (tmp_path / name).write_text("x")
    # Two jobs of 100 predicted seconds took 100 together: the other two take 100.
    done, total, seconds = remaining(plan)
    assert done == 2 and seconds == pytest.approx(100, rel=0.05)


def test_outputs_of_an_earlier_run_do_not_count(tmp_path):
    old = tmp_path / "old"
    old.write_text("x")
    os.utime(old, (1, 1))
    plan = tmp_path / "plan.json"
    write_plan(plan, {str(old): 5.0})
    assert remaining(plan)[0] == 0


def test_no_plan_gives_no_estimate(tmp_path):
    assert remaining(tmp_path / "none.json") is None
