"""Describing a job as a step: what it is told, what it runs, what it reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from layersight.provenance.code import CodeIndex
from layersight.provenance.records import FOLDER, Step, flattened

UNTRACKED = frozenset(
    {"code", "cache", "checkpoint_seconds", "parts", "search_mb", "shared", "tensorboard"}
)
"""Parameters that say where or how to work, and change no byte of a result."""


def step_name(rule: str, wildcards: Mapping[str, str]) -> str:
    """Return a job's name for people."""
    return " ".join([rule, *wildcards.values()])


def describe(
    rule: str,
    wildcards: Mapping[str, str],
    params: Mapping[str, Any],
    inputs: Iterable[tuple[str | None, Any]],
    outputs: Iterable[str],
    *,
    results: Path,
    scripts: Path,
    index: CodeIndex,
) -> Step:
    """Return a job as a step.

    Args:
        rule: its rule.
        wildcards: name to value.
        params: what it is told; `code` names its script and the modules that its settings choose,
            `parts` the input role that pairs with the outputs.
        inputs: pairs of a role (None: no role) and a path or several.
        outputs: paths.
        results: folder of the study's results.
        scripts: folder of the scripts.
        index: of the library.
    """
    roles: dict[str, list[str]] = {}
    for role, value in inputs:
        paths = [value] if isinstance(value, (str, Path)) else list(value)
        roles.setdefault(role or "input", []).extend(str(path) for path in paths)
    made = [str(path) for path in outputs]
    inside = made[0].startswith(f"{results}/")
    record = (
        results / FOLDER / "/".join([rule, *(wildcards.values() or ["all"])])
        if inside
        else Path(made[0])
    )
    told = {key: value for key, value in params.items() if key not in UNTRACKED}
    settings = flattened(told.pop("study", {})) | flattened(told)
    settings |= {f"job.{name}": value for name, value in wildcards.items()}
    code = params["code"]
    return Step(
        name=step_name(rule, wildcards),
        record=record.with_name(f"{record.name}{'' if inside else '.record'}.json"),
        settings=settings,
        code=index.code(scripts / code["script"], code["also"]),
        inputs=roles,
        outputs=made,
        parts=params.get("parts"),
    )
