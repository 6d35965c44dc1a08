"""Progress of long work in the terminal: what, how far, how long it still takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Prints a line now and then while work goes on.

    Lines rather than a bar: several jobs write to one terminal, and to log files.

    Args:
        total: number of units of work.
        what: a few words, for example ``"align: step"``.
    """

    def __init__(self, total: int, what: str) -> None:
        self.total = total
        self.what = what
        self.done = 0
        self._start = time.monotonic()
        self._last = self._start

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._print(f"done in {_clock(time.monotonic() - self._start)}")

    @classmethod
    def over(cls, items: Iterable[Item], what: str) -> Iterator[Item]:
        """Yield the items and count each as done when the next one is asked for."""
        known = list(items)
        with cls(len(known), what) as progress:
            for item in known:
                yield item
                progress.advance()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units; print a line if the last one is some seconds old."""
        self.done += n
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES and self.done < self.total:
            self._last = now
            left = (now - self._start) / self.done * (self.total - self.done)
            self._print(f"{_clock(left)} left in this job" + (f" · {note}" if note else ""))

    def _print(self, message: str) -> None:
        print(f"{self.what} {self.done}/{self.total} · {message}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
