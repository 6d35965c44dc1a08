"""A checkout of its own, and the smoke study run in it once for all tests."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "envs", "slurm", "requirements.lock")


@dataclass
class Checkout:
    """A copy of the repository's own files, with an empty asset cache.

    Attributes:
        folder: of the copy.
        variables: of the environment, beside those of the tests.
    """

    folder: Path
    patience_s: ClassVar[float] = 900
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """What Snakemake runs with here."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return environment | {"LAYERSIGHT_CACHE": str(self.folder / "cache")} | self.variables

    @property
    def program(self) -> list[str]:
        """How Snakemake is called."""
        return [sys.executable, "-m", "snakemake"]

    def snakemake(self, *arguments: str, study: str = "smoke") -> subprocess.CompletedProcess[str]:
        """Run Snakemake at the root of this checkout; stdout and stderr come together."""
        config = () if "--config" in arguments else ("--config", f"study={study}")
        return subprocess.run(
            [*self.program, *arguments, *config],
            cwd=self.folder,
            env=self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=self.patience_s,
            check=False,
        )


def copy_of_repository(folder: Path) -> Checkout:
    """Copy what a clone has into a folder."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_symlink():
            (folder / part).symlink_to(os.readlink(source))
        elif source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return Checkout(folder)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which nothing has run."""
    return copy_of_repository(tmp_path_factory.mktemp("checkout") / "layersight")


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which the smoke study has run from nothing to its report."""
    return run_smoke_once(tmp_path_factory.getbasetemp() / "smoke-run")


@functools.cache
def run_smoke_once(folder: Path) -> Checkout:
    """Run the smoke study once for the tests of all folders."""
    made = copy_of_repository(folder / "layersight")
    done = made.snakemake("--cores", "2")
    assert done.returncode == 0, done.stdout[-6000:]
    (made.folder / "run.log").write_text(done.stdout)
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Checkout:
    """A checkout of one test alone, in which nothing has run."""
    return copy_of_repository(tmp_path / "layersight")


@pytest.fixture
def mounted() -> Iterator[Callable[[Path, str], None]]:
    """Mount a file system in memory on a folder, with options such as `size=2m`."""
    folders: list[Path] = []

    def mount(folder: Path, options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"mounting is not permitted here: {error}")
        folders.append(folder)

    yield mount
    for folder in folders:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[[str, str, str], Checkout]:
    """Make a checkout in which one text of one file is replaced by another."""

    def edit(file: str, old: str, new: str) -> Checkout:
        made = copy_of_repository(tmp_path / "layersight")
        path = made.folder / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
        return made

    return edit
