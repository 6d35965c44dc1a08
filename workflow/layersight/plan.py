"""The remaining time of a whole run, from the predicted time of its jobs and the time spent."""

from __future__ import annotations

import json
import time
from pathlib import Path

from layersight.storage.atomic import atomic_file


def write_plan(path: Path, predicted: dict[str, float]) -> None:
    """Write the jobs of a run: first output of each, and its predicted seconds of wall time."""
    with atomic_file(path) as beside:
        beside.write_text(
            json.dumps({"started": time.time(), "jobs": predicted}, indent=1), encoding="utf-8"
        )


def remaining(path: Path) -> tuple[int, int, float] | None:
    """Return jobs done, jobs in all, and the seconds that the run still takes; None if unknown.

    Predictions are scaled by how the jobs done so far compare with theirs.
    """
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    done = [output for output in plan["jobs"] if _made_since(Path(output), plan["started"])]
    spent = time.time() - plan["started"]
    total = sum(plan["jobs"].values())
    finished = sum(plan["jobs"][output] for output in done)
    # Until enough has been seen, the prediction counts as one more observation.
    weight = min(1.0, finished / (0.2 * total)) if total else 1.0
    pace = weight * spent / max(finished, 1e-9) + (1 - weight)
    return len(done), len(plan["jobs"]), pace * (total - finished)


def _made_since(path: Path, start: float) -> bool:
    try:
        return path.stat().st_mtime >= start - 1
    except OSError:
        return False
