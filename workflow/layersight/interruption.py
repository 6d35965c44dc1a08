"""Stopping on request: a job that is told to end saves what it has first.

Batch systems send SIGTERM some time before they kill (preemption, time limit). `install` turns that
signal into a flag, which long work looks at between two steps.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from types import FrameType
from typing import NoReturn

EXIT_CODE = 143
"""What a shell reports of a process that SIGTERM ended: 128 + 15."""


class Interrupted(Exception):  # noqa: N818 - no error: the work goes on later
    """Work was stopped on request, between two steps; what was finished is kept."""


class _Request:
    made = False


def install() -> None:
    """Let SIGTERM only ask for an end; a second one ends the process at once.

    Without this call SIGTERM keeps its usual effect. Only the main thread may call it.
    """
    signal.signal(signal.SIGTERM, _on_signal)


def ignore() -> None:
    """Pass over SIGTERM from now on: the work is over, and the process about to end by itself.

    Python calls functions of libraries as it ends; a signal in one of them would print a traceback.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def end_with_parent() -> None:
    """Ask Linux to send this process SIGTERM when its parent ends, so that no orphan goes on."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def requested() -> bool:
    """Return whether SIGTERM has come since `install`."""
    return _Request.made


def clear() -> None:
    """Forget a request: what comes next is other work."""
    _Request.made = False


def stop_if_requested(what: str, where: str, *, kept: bool) -> None:
    """Leave the work if an end is asked for.

    Args:
        what: names the work, such as `full/seed-0`.
        where: how far it is, such as `step 12`.
        kept: whether what is finished was saved.

    Raises:
        Interrupted: SIGTERM has come.
    """
    if requested():
        stop(what, where, kept=kept)


def stop(what: str, where: str, *, kept: bool) -> NoReturn:
    """Leave the work; the arguments are those of `stop_if_requested`.

    Raises:
        Interrupted: always.
    """
    rest = "goes on from here" if kept else "starts anew, since nothing was kept"
    raise Interrupted(f"{what}: stopped on request at {where}; the same command {rest}")


def _on_signal(number: int, frame: FrameType | None) -> None:
    if _Request.made:
        raise SystemExit(EXIT_CODE)
    _Request.made = True
