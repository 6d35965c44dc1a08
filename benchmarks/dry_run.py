"""Times the dry run of the study mini, and of a big one: 40 variants, each with 3 seeds.

The big one asks for all that a study can: all 4 probe sets, all 4 benchmarks, the whole toolbox of
geometry, linear probes, token clouds and attention.

Both run in a temporary copy of the checkout with an empty cache, so that every job is planned.
"""

from __future__ import annotations

import argparse
import os
import pstats
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "workflow", "config", "profiles", "envs", "slurm", "requirements.lock")
BIG = "big"


def big_study(variants: int, seeds: int) -> dict[str, object]:
    """Return a study file: that of mini with many variants, half of them LoRA, half full."""
    chosen: dict[str, object] = dict.fromkeys(("full-10-20", "lora", "ia3", "mores"))
    for index in range(variants - 1):
        layers = [index % 25, index % 25 + 5]
        method = "lora" if index % 2 else "full"
        chosen[f"{method}-{layers[0]}-{layers[1]}"] = {"method": method, "layers": layers}
    toolbox = {
        "geometry": {"density": {"k": 8}, "alignment": {}, "spectrum": {}},
        "linear_probes": {"every": 5},
        "token_clouds": {"prompts": 16},
    }
    return {"extends": "mini", "name": BIG, "seeds": seeds, "variants": chosen, **toolbox}


def copy_of_checkout(folder: Path) -> None:
    """Copy what Snakemake reads."""
    for part in PARTS:
        source = ROOT / part
        if source.is_symlink():
            (folder / part).symlink_to(os.readlink(source))
        elif source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / part, ignore=ignored)
        else:
            shutil.copy(source, folder / part)


def dry_run(
    folder: Path, study: str, profile: Path | None, *, slurm: bool = False
) -> tuple[float, float, str]:
    """Return wall seconds, CPU seconds and output of one dry run; with `slurm` for a cluster.

    Raises:
        SystemExit: Snakemake failed; shows what it said.
    """
    command = [sys.executable]
    if profile is not None:
        command += ["-m", "cProfile", "-o", str(profile)]
    command += ["-m", "snakemake", "--dry-run", "--quiet", "rules", "--config", f"study={study}"]
    command += ["--profile", "slurm"] if slurm else []
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "LAYERSIGHT_CACHE": str(folder / "cache")},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stdout[-4000:])
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return seconds, spent, done.stdout


def peak_mb() -> float:
    """Return the largest memory that any dry run so far had, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6


def main() -> None:
    """Print the seconds of each dry run, and where they go if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="show the dearest calls")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_of_checkout(folder)
        text = yaml.safe_dump(big_study(arguments.variants, arguments.seeds))
        (folder / f"config/studies/{BIG}.yaml").write_text(text, encoding="utf-8")
        for study, slurm in (("mini", False), (BIG, False), (BIG, True)):
            runs = [dry_run(folder, study, None, slurm=slurm) for _ in range(arguments.repeats)]
            jobs = re.findall(r"^total +(\d+)", runs[-1][2], flags=re.MULTILINE)
            seconds = ", ".join(f"{wall:.1f} ({cpu:.1f} of a core)" for wall, cpu, _ in runs)
            where = " on a cluster" if slurm else ""
            print(
                f"{study}{where}: {jobs[-1] if jobs else '?'} jobs, {seconds} s, {peak_mb():.0f} MB"
            )
            if arguments.profile:
                kept = folder / "profile"
                dry_run(folder, study, kept, slurm=slurm)
                pstats.Stats(str(kept)).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
