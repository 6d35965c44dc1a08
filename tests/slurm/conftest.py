"""A cluster for all tests of this folder, and checkouts whose jobs go to it."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from tests.slurm.sandbox import Sandbox, install
from tests.workflow.conftest import Checkout, copy_of_repository, smoke_run

__all__ = ["smoke_run"]
HERE = Path(__file__).parent
COMMAND = (
    "--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1",
    "--config", "study=smoke",
)  # fmt: skip


@dataclass
class OnSlurm(Checkout):
    """A checkout of which Snakemake sends the jobs to the sandbox."""

    sandbox: Sandbox = field(kw_only=True)
    patience_s: ClassVar[float] = 3600

    def environment(self) -> dict[str, str]:
        return super().environment() | self.sandbox.environment()

    @property
    def program(self) -> list[str]:
        """Snakemake with short waits."""
        return [sys.executable, str(HERE / "polling.py")]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Sandbox]:
    """A running cluster; installs Slurm where this is possible."""
    why = install()
    if why is not None:
        pytest.skip(why)
    # Sockets have short names only.
    root = Path(tempfile.mkdtemp(prefix="slurm-"))
    made = Sandbox(root)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(root, ignore_errors=True)


def on_slurm(sandbox: Sandbox, folder: Path) -> OnSlurm:
    """Make a checkout, and edit the one file that a user edits."""
    made = OnSlurm(copy_of_repository(folder).folder, sandbox=sandbox)
    shutil.copy(HERE / "partitions.yaml", folder / "profiles/slurm/partitions.yaml")
    return made
