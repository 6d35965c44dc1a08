"""Prints what the jobs of a finished run took, as the table that cost predictions are tested on."""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import sys
from pathlib import Path

from layersight.cost.measured import fingerprint, jobs
from layersight.study_file import load_study


def main() -> None:
    """Write CSV to stdout: a head on study, date and machine, then a row a job."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="folder results/<study> of a finished run")
    results = parser.parse_args().results
    study = load_study(Path(__file__).parents[1] / f"config/studies/{results.resolve().name}.yaml")
    today = datetime.date.today().isoformat()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    print(f"# study {study.name}, fingerprint {fingerprint(study)}")
    print(f"# {today}, {machine}")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["rule", "job", "seconds", "memory_mb", "disk_mb"])
    for job in jobs(results):
        sizes = (f"{job.seconds:.1f}", f"{job.memory_mb:.0f}", f"{job.disk_mb:.4f}")
        writer.writerow([job.rule, job.job, *sizes])


if __name__ == "__main__":
    main()
