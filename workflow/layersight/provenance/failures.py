"""Variants that cannot be trained as the study says: left out of the rest, and named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from layersight.provenance.records import Step
from layersight.storage.atomic import atomic_file

FOLDER = ".failed"


def leave_out(results: Path, subject: str, step: Step, message: str) -> None:
    """Note that a step has failed for good: the same settings and code would fail again.

    Args:
        results: folder of the study's results.
        subject: `<variant>/seed-<s>`.
        step: the training step.
        message: what happened.
    """
    with atomic_file(_path(results, subject)) as beside:
        record = {"subject": subject, "state": _state(step), "message": message}
        beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def has_failed(results: Path, subject: str) -> bool:
    """Return whether a failure of a subject is noted, of whatever settings and code."""
    return _path(results, subject).is_file()


def left_out(results: Path, subject: str, step: Step) -> str | None:
    """Return why a subject is left out; None if it is not, or if its settings or code are new."""
    try:
        record = json.loads(_path(results, subject).read_text(encoding="utf-8"))
        return str(record["message"]) if record["state"] == _state(step) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _path(results: Path, subject: str) -> Path:
    return results / FOLDER / f"{subject.replace('/', '.')}.json"


def _state(step: Step) -> str:
    told = {"settings": dict(step.settings), "code": step.code.digest}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
