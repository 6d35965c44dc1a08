"""What a job was made from, written beside its results when it has succeeded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layersight.provenance.code import Code
from layersight.provenance.digests import Digests
from layersight.storage.atomic import atomic_file

FOLDER = ".records"


@dataclass(frozen=True)
class Step:
    """One job as the study and the library of now would run it.

    Attributes:
        name: for people, such as `tune full/seed-0`.
        record: where its record lies.
        settings: dotted key to value: all that the job is told.
        code: what it runs.
        inputs: role to paths, in order.
        outputs: paths.
        parts: role whose n-th input concerns only the n-th output; None if there is no such role.
    """

    name: str
    record: Path
    settings: Mapping[str, Any]
    code: Code
    inputs: Mapping[str, Sequence[str]]
    outputs: Sequence[str]
    parts: str | None = None

    def inputs_of(self, output: str) -> dict[str, list[str]]:
        """Return the inputs that one output depends on."""
        index = list(self.outputs).index(output)
        return {
            role: [paths[index]] if role == self.parts else list(paths)
            for role, paths in self.inputs.items()
        }

    def key(self, output: str, digests: Digests) -> str:
        """Return a digest of everything that an output depends on, inputs by their content.

        Paths do not count, so that two studies, or two users, find each other's results.
        """
        told = {
            "settings": dict(self.settings),
            "code": self.code.digest,
            "packages": self.code.packages,
            "inputs": {
                role: [digests.of(path) for path in paths]
                for role, paths in self.inputs_of(output).items()
            },
            # A job with several outputs makes each from the same inputs.
            "output": None if self.parts else list(self.outputs).index(output),
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Record:
    """What a job's outputs were made from; see `Step`."""

    settings: dict[str, Any]
    definitions: dict[str, str]
    packages: dict[str, str]
    inputs: dict[str, dict[str, str]]
    outputs: dict[str, str]
    parts: str | None


ORDERED = ("variants", "concepts.kinds")
"""Mappings whose order shows in results: legends, tables, lists of choices."""


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    if prefix.rstrip(".") in ORDERED:
        flat[f"{prefix}(order)"] = list(settings)
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{name}.")
        else:
            # As it comes back from a record: tuples as lists, at every depth.
            flat[name] = json.loads(json.dumps(value))
    return flat


def write_record(
    step: Step, digests: Digests, *, read: Mapping[str, str | None] | None = None
) -> None:
    """Record a step whose outputs have all been made.

    Args:
        step: what was made.
        digests: of files.
        read: digests of the inputs when the step began; None: as they are now.
    """
    known = {} if read is None else read
    record = {
        "step": step.name,
        "settings": dict(step.settings),
        "definitions": step.code.definitions,
        "packages": step.code.packages,
        "inputs": {
            role: {path: known[path] if path in known else digests.of(path) for path in paths}
            for role, paths in step.inputs.items()
        },
        "outputs": {path: digests.of(path) for path in step.outputs},
        "parts": step.parts,
    }
    with atomic_file(step.record) as beside:
        beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(path: Path) -> Record | None:
    """Read a record; None if there is none, or none that can be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        record = Record(
            data["settings"],
            data["definitions"],
            data["packages"],
            data["inputs"],
            data["outputs"],
            data["parts"],
        )
        tables = (record.settings, record.definitions, record.packages, record.inputs)
        if all(isinstance(table, dict) for table in (*tables, record.outputs)) and all(
            isinstance(role, dict) for role in record.inputs.values()
        ):
            return record
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
