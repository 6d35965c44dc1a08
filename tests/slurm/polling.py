"""Snakemake with a short interval between two looks at Slurm, for tests: `polling.py ARGUMENTS`.

The plugin waits 10 s longer after every look that found nothing finished, and 5 s before every
submission; no setting turns that off. Tiny jobs would wait for that, not for Slurm.
"""

from __future__ import annotations

import asyncio
import sys
import time
from types import SimpleNamespace

import snakemake_executor_plugin_slurm as plugin
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def _sleep(executor: RemoteExecutor) -> None:
    await asyncio.sleep(1)


RemoteExecutor.sleep = _sleep
plugin.time = SimpleNamespace(time=time.time, sleep=lambda seconds: time.sleep(0.1))

if __name__ == "__main__":
    sys.exit(main())
