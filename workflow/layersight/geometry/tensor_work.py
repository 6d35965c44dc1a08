"""What the neighbour search does with tensors: slices, the smallest of a row, one worker a core."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import torch
from torch import Tensor


def spans_of(total: int, length: int) -> Iterator[slice]:
    """Cut `0..total` into slices of at most `length`, and at least one, each."""
    length = max(1, length)
    for start in range(0, total, length):
        yield slice(start, min(start + length, total))


def smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` smallest numbers of every row and their columns, in any order.

    The row is cut into groups. A number among the `count` smallest lies in one of the `count`
    groups with the smallest minima: the minima of the others are no smaller, and there are `count`
    of them. So most numbers are looked at once only, by a minimum over the groups.

    Args:
        values: `(rows, columns)` contiguous; columns a multiple of `group_size(columns, count)`.
        count: at most the number of columns.
    """
    rows, columns = values.shape
    size = group_size(columns, count)
    if size == 1:
        return torch.topk(values, count, dim=1, largest=False, sorted=False)
    groups = columns // size
    grouped = values.view(rows, size, groups)
    chosen = torch.topk(grouped.amin(dim=1), count, dim=1, largest=False, sorted=False).indices
    members = grouped.gather(2, chosen[:, None].expand(rows, size, count)).view(rows, -1)
    least, place = torch.topk(members, count, dim=1, largest=False, sorted=False)
    group = chosen.gather(1, place % count)
    return least, group + groups * torch.div(place, count, rounding_mode="floor")


def group_size(columns: int, count: int) -> int:
    """Return how many numbers `smallest` puts in a group: about sqrt(columns / count)."""
    size = round(math.sqrt(columns / count))
    return size if size > 2 else 1


class Workers:
    """Threads that share work on tensors, each with one core.

    A chain of small operations is quicker so than with all cores in every operation, which wait for
    one another at each; much quicker where others use the cores, too.
    """

    def __init__(self, count: int, pool: ThreadPoolExecutor | None) -> None:
        self.count = count
        self._pool = pool

    def share(self, work: Callable[[slice], None], rows: int) -> None:
        """Call `work` with slices that cover `0..rows`, and wait for all."""
        parts = list(spans_of(rows, -(-rows // self.count)))
        if self._pool is None or len(parts) == 1:
            for part in parts:
                work(part)
            return

        def inferring(part: slice) -> None:
            with torch.inference_mode():  # holds for one thread only
                work(part)

        for _ in self._pool.map(inferring, parts):
            pass


@contextmanager
def workers_of(device: str) -> Iterator[Workers]:
    """As many workers as torch has threads on the CPU; one for another device."""
    count = torch.get_num_threads() if torch.device(device).type == "cpu" else 1
    if count == 1:
        yield Workers(1, None)
        return
    started = Barrier(count)

    def start() -> None:
        torch.set_num_threads(1)
        started.wait()

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(start) for _ in range(count)]:
            done.result()
        # What belongs to the thread stays one in the workers; what they share is set back.
        torch.set_num_threads(count)
        yield Workers(count, pool)
