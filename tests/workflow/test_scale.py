"""A study of 40 variants with 3 seeds each: all probe sets, all benchmarks, the whole toolbox."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess

import pytest
import yaml
from tests.workflow.conftest import ROOT

pytestmark = pytest.mark.slow  # plans two thousand jobs
SECONDS, MEGABYTES = 30.0, 2000.0


def big_study() -> dict[str, object]:
    path = ROOT / "benchmarks/dry_run.py"
    spec = importlib.util.spec_from_file_location("dry_run", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.big_study(variants=40, seeds=3)


@pytest.mark.parametrize("profile", [(), ("--profile", "slurm")], ids=["local", "slurm"])
def test_its_dry_run_takes_less_than_30_seconds_of_a_core_and_2_gb(fresh, profile, tmp_path):
    (fresh.folder / "config/studies/big.yaml").write_text(yaml.safe_dump(big_study()))
    command = [*fresh.program, "-n", "--quiet", "rules", *profile, "--config", "study=big"]
    with (tmp_path / "out.txt").open("w+") as out:
        process = subprocess.Popen(
            command, cwd=fresh.folder, env=fresh.environment(), stdout=out, stderr=out
        )
        # Seconds of a core, whatever else this machine does.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    assert process.returncode == 0, said[-3000:]
    jobs = int(re.findall(r"^total +(\d+)$", said, re.MULTILINE)[0])
    assert jobs > 120 * 15
    assert used.ru_utime + used.ru_stime < SECONDS
    assert used.ru_maxrss * 1024 / 1e6 < MEGABYTES
