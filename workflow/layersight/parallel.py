"""Independent calls side by side, their results in order."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def call_all(calls: Sequence[Callable[[], Result]], processes: int) -> Iterator[Result]:
    """Call every function and yield the results in order.

    Processes rather than threads, since drawing holds Python's global lock. Only on Linux is a fork
    safe; elsewhere a new process would run the calling script again, so the calls run one by one.

    Args:
        calls: functions of a module, or partials of one, as another process calls them.
        processes: how many at a time.
    """
    if processes == 1 or sys.platform != "linux":
        for call in calls:
            yield call()
        return
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=fork) as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            for future in futures:
                yield future.result()
        finally:
            # After an error, do not go through the rest before reporting it.
            for future in futures:
                future.cancel()
