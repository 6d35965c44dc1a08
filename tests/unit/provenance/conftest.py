"""A made-up library, and steps that are not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from layersight.provenance.code import Code, CodeIndex
from layersight.provenance.records import Step


class Library:
    """A small library in a folder of its own, and one script that uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "layersight"
        self.script = folder / "script.py"

    def write(self, script: str, **modules: str) -> Library:
        """Write modules; `a__b` is the module `a/b.py`, `a__init` is `a/__init__.py`."""
        self.module("init", "")
        self.script.write_text(script)
        for name, text in modules.items():
            self.module(name, text)
        return self

    def module(self, name: str, text: str) -> None:
        *folders, last = name.split("__")
        file = self.folder.joinpath(*folders, "__init__.py" if last == "init" else f"{last}.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        for folder in file.parent.relative_to(self.folder.parent).parents:
            start = self.folder.parent / folder / "__init__.py"
            if folder.parts and not start.exists():
                start.write_text("")
        file.write_text(text)
        start = file.parent / "__init__.py"
        if not start.exists():
            start.write_text("")

    def code(self, *also: str) -> Code:
        """Read everything anew, as the next run does."""
        return CodeIndex(self.folder).code(self.script, also)

    def names(self, *also: str) -> set[str]:
        """Definitions that the script reaches, without itself."""
        return {
            name.removeprefix("layersight.")
            for name in self.code(*also).definitions
            if not name.startswith("<")
        }


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path)


MakeStep = Callable[..., Step]


@pytest.fixture
def make_step(tmp_path: Path) -> MakeStep:
    """Makes steps whose files lie in `results` of the test's folder."""
    results = tmp_path / "results"

    def make(
        name: str,
        inputs: Mapping[str, Sequence[str]],
        outputs: Sequence[str],
        *,
        settings: Mapping[str, Any] | None = None,
        code: Mapping[str, str] | None = None,
        packages: Mapping[str, str] | None = None,
        parts: str | None = None,
    ) -> Step:
        return Step(
            name=name,
            record=results / ".records" / f"{name}.json",
            settings={"seed": 1} if settings is None else settings,
            code=Code(dict(code or {"m:f": "1"}), dict(packages or {"numpy": "2.0"})),
            inputs={
                role: [str(results / path) for path in paths] for role, paths in inputs.items()
            },
            outputs=[str(results / path) for path in outputs],
            parts=parts,
        )

    return make
