"""The search behind `neighbours.nearest_neighbours`, with torch on any device.

Every exact distance is the sum of squared differences of one pair, over the last axis of a
contiguous array: its bits depend on the two vectors alone, so that copies of a vector have
identical distances, however the rows are cut into blocks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from layersight.geometry.tensor_work import Workers, group_size, smallest, spans_of, workers_of

# Exact distances are made in pieces that stay in the cache of a core.
_CACHED_BYTES = 2**22
# Rows of one product: more make it no faster.
_BLOCK_ROWS = 1024
# Numbers that are centred at a time.
_MADE_ENTRIES = 2**21
# Rows that tell roughly where another one lies.
_PIVOTS = 64


@dataclass(frozen=True)
class Found:
    """What `search` found.

    Attributes:
        indices: `(n, k)` int32.
        squared: `(n, k)` float64, squared distances of the vectors (of unit length for cosine).
        settled: rows proven by products in float32, in float64, and found from all distances.
    """

    indices: npt.NDArray[np.int32]
    squared: npt.NDArray[np.float64]
    settled: tuple[int, int, int]


def search(
    vectors: npt.NDArray[np.floating[Any]],
    k: int,
    *,
    norms: npt.NDArray[np.float64] | None,
    device: str,
    memory: int,
) -> Found:
    """Find the `k` nearest rows of every row; see `neighbours.nearest_neighbours`.

    Args:
        vectors: `(n, d)` contiguous and finite, float16, float32 or float64.
        k: number of neighbours, below n.
        norms: `(n,)` positive, by which the rows are divided first; None leaves them as they are.
        device: as torch names it.
        memory: bytes for all that is allocated beside the vectors, at least `least_memory`.
    """
    with torch.inference_mode(), _full_precision(), workers_of(device) as workers:
        space = _Space(vectors, norms, device, workers)
        n = space.n
        indices = torch.empty((n, k), dtype=torch.int32, device=device)
        squared = torch.empty((n, k), dtype=torch.float64, device=device)
        room = memory - _fixed_bytes(n, k)
        pending = torch.arange(n, device=device)
        settled = []
        for precision in (torch.float32, torch.float64):
            before = len(pending)
            if before:
                candidates = _Candidates(space, k, precision, room)
                pending = candidates.settle(candidates.gathered(pending), indices, squared)
            settled.append(before - len(pending))
        _settle_by_differences(space, pending, indices, squared, room)
        counts = (settled[0], settled[1], len(pending))
        return Found(indices.cpu().numpy(), squared.cpu().numpy(), counts)


def least_memory(n: int, d: int, k: int) -> int:
    """Return the fewest bytes that `search` can work with."""
    return _fixed_bytes(n, k) + 2 * max(64 * n, 16 * d * _candidates(n, k), 64 * d)


def _fixed_bytes(n: int, k: int) -> int:
    # Results, their roots, and four numbers a row.
    return n * k * 20 + 32 * n


def _candidates(n: int, k: int) -> int:
    return min(n - 1, k + max(16, k // 8))


@contextmanager
def _full_precision() -> Iterator[None]:
    """Keep products in float32: the error bound knows nothing of TF32 or bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class _Space:
    """The vectors as given, and how to read any of them in float64."""

    def __init__(
        self,
        vectors: npt.NDArray[np.floating[Any]],
        norms: npt.NDArray[np.float64] | None,
        device: str,
        workers: Workers,
    ) -> None:
        self.workers = workers
        with warnings.catch_warnings():
            # They may be read-only; nothing here writes to them.
            warnings.simplefilter("ignore", UserWarning)
            self.values = torch.from_numpy(vectors).to(device)
        self.n, self.d = vectors.shape
        self.device = self.values.device
        self.norms = None if norms is None else torch.from_numpy(norms).to(device)

    def exact(self, which: slice | Tensor) -> Tensor:
        """Return rows in float64, in memory of their own."""
        if isinstance(which, slice):
            chosen = self.values[which].to(torch.float64, copy=True)
        else:
            chosen = self.values.index_select(0, which).to(torch.float64)
        if self.norms is not None:
            chosen /= self.norms[which][:, None]
        return chosen

    def gather(self, which: Tensor, into: Tensor, raw: Tensor | None) -> None:
        """Write rows in float64 into `(m, d)` memory; `raw` as `raw_rows` makes it."""
        if raw is None:
            torch.index_select(self.values, 0, which, out=into)
        else:
            torch.index_select(self.values, 0, which, out=raw)
            into.copy_(raw)
        if self.norms is not None:
            into /= self.norms[which][:, None]

    def raw_rows(self, rows: int) -> Tensor | None:
        """Return memory for rows as they are stored; None where that is float64."""
        if self.values.dtype == torch.float64:
            return None
        return torch.empty((rows, self.d), dtype=self.values.dtype, device=self.device)

    def piece(self, room: int) -> int:
        """Return the bytes in which a worker makes exact distances at a time."""
        if self.device.type == "cpu":
            return min(room // self.workers.count, _CACHED_BYTES)
        return room // 2


class _Candidates:
    """Rows minus their mean in one precision, and lower bounds on their distances.

    Centring removes what all rows share (anisotropy, a massive constant dimension), which would
    otherwise eat the digits of the products; a power of two brings all numbers within one. With
    one more column `sqrt(slack) ||c||`, a product of two rows is their dot product plus
    `slack ||c_i|| ||c_j||`: the error term for free. Rows are kept where half the room holds them
    all, and made anew for every block otherwise.
    """

    def __init__(self, space: _Space, k: int, precision: torch.dtype, room: int) -> None:
        n, d = space.n, space.d
        self.space, self.precision = space, precision
        self.count = _candidates(n, k)
        self.itemsize = precision.itemsize
        unit = torch.finfo(precision).eps / 2
        self.slack = 1.01 * (0.5 * (d + 1) * unit / (1 - (d + 1) * unit) + 16 * unit)
        self.length = max(1, min(room // (64 * d), _MADE_ENTRIES // d))
        self._centre()
        size = group_size(n, self.count)
        self.columns = -(-n // size) * size
        kept_bytes = self.columns * (d + 1) * self.itemsize
        self.kept: Tensor | None = None
        if kept_bytes <= room // 2:
            self.kept = torch.zeros((self.columns, d + 1), dtype=precision, device=space.device)
            room -= kept_bytes
        self.room = room
        lengths = []
        for span in spans_of(n, self.length):
            rows = self._made(span)
            lengths.append(rows[:, :-1].double().square().sum(dim=1))
            if self.kept is not None:
                self.kept[span] = rows
        self.lengths = torch.cat(lengths) * (1 - self.slack)
        # Columns beyond the last row fill up the last group; none is ever a neighbour.
        self.column_term = torch.full(
            (self.columns,), math.inf, dtype=precision, device=space.device
        )
        self.column_term[:n] = self.lengths.to(precision)

    def _centre(self) -> None:
        space = self.space
        total = torch.zeros(space.d, dtype=torch.float64, device=space.device)
        for span in spans_of(space.n, self.length):
            total += space.exact(span).sum(dim=0)
        self.mean = total / space.n
        largest = 0.0
        for span in spans_of(space.n, self.length):
            least, most = (space.exact(span) - self.mean).aminmax()
            largest = max(largest, -float(least), float(most))
        exponent = -math.ceil(math.log2(largest)) if largest > 0 else 0
        self.scale = 2.0 ** min(max(exponent, -1000), 1000)

    def _made(self, which: slice | Tensor) -> Tensor:
        exact = self.space.exact(which)
        exact -= self.mean
        exact *= self.scale
        rows = torch.empty(
            (len(exact), self.space.d + 1), dtype=self.precision, device=exact.device
        )
        rows[:, :-1] = exact
        # The norm is that of the rounded numbers, which the products see.
        exact.copy_(rows[:, :-1])
        rows[:, -1] = math.sqrt(self.slack) * torch.linalg.vector_norm(exact, dim=1)
        return rows

    def gathered(self, which: Tensor) -> Tensor:
        """Return rows in an order that has near ones together: their neighbours stay in the cache.

        Rows are sorted by the nearest of a few that are taken as pivots. No result depends on it.
        """
        if self.kept is None:
            return which
        pivots = torch.arange(0, self.space.n, -(-self.space.n // _PIVOTS), device=which.device)
        nearest = torch.empty_like(which)
        for span in spans_of(len(which), self.length):
            products = self.kept[which[span]] @ self.kept[pivots].T
            nearest[span] = torch.add(self.column_term[pivots], products, alpha=-2).argmin(dim=1)
        return which[nearest.argsort(stable=True)]

    def _bounds(self, block: Tensor) -> Tensor:
        """Lower bounds on the squared scaled distances, less the term of the block's row."""
        n = self.space.n
        own = self.kept[block] if self.kept is not None else self._made(block)
        if self.kept is not None:
            bounds = own @ self.kept.T
        else:
            bounds = torch.zeros(
                (len(block), self.columns), dtype=self.precision, device=block.device
            )
            for span in spans_of(n, self.length):
                bounds[:, span] = own @ self._made(span).T
        torch.add(self.column_term, bounds, alpha=-2, out=bounds)
        bounds[torch.arange(len(block), device=block.device), block] = math.inf
        return bounds

    def settle(self, pending: Tensor, indices: Tensor, squared: Tensor) -> Tensor:
        """Fill in the rows whose neighbours can be proven; return those whose cannot."""
        n, d = self.space.n, self.space.d
        # Products below the smallest normal number lose digits in absolute, not relative, terms.
        underflow = 16 * d * torch.finfo(self.precision).tiny
        rounding = self.scale * self.scale * (1 + 8 * d * torch.finfo(torch.float64).eps)
        row_bytes = 3 * n * self.itemsize + self.count * 48 + (d + 1) * 24
        unproven = [pending[:0]]
        for span in spans_of(len(pending), min(self.room // 2 // row_bytes, _BLOCK_ROWS)):
            block = pending[span]
            bounds = self._bounds(block)
            if self.count < n - 1:
                least, candidates = smallest(bounds, self.count)
                # Whatever is no candidate has a bound at least as large as theirs.
                cut = least.amax(dim=1).double() + self.lengths[block] - underflow
            else:
                candidates = torch.arange(n - 1, device=block.device).repeat(len(block), 1)
                candidates += candidates >= block[:, None]
                cut = torch.full((len(block),), math.inf, device=block.device)
            del bounds
            # Sorted by index first, so that a stable sort by distance breaks ties by index.
            candidates = candidates.sort(dim=1).values
            exact = self._exact(block, candidates)
            _keep_nearest(block, candidates, exact, indices, squared)
            unproven.append(block[~(squared[block, -1] * rounding < cut)])
        return torch.cat(unproven)

    def _exact(self, block: Tensor, candidates: Tensor) -> Tensor:
        space, d = self.space, self.space.d
        exact = torch.empty(candidates.shape, dtype=torch.float64, device=block.device)
        length = max(1, space.piece(self.room // 2) // (16 * d * self.count))
        own = space.exact(block)

        def work(mine: slice) -> None:
            rows = min(length, mine.stop - mine.start) * self.count
            others = torch.empty((rows, d), dtype=torch.float64, device=block.device)
            raw = space.raw_rows(rows)
            for start in range(mine.start, mine.stop, length):
                part = slice(start, min(start + length, mine.stop))
                which = candidates[part].reshape(-1)
                there = others[: len(which)]
                space.gather(which, there, None if raw is None else raw[: len(which)])
                there = there.view(-1, self.count, d)
                there -= own[part][:, None]
                torch.sum(there.square_(), dim=2, out=exact[part])

        space.workers.share(work, len(block))
        return exact


def _settle_by_differences(
    space: _Space, pending: Tensor, indices: Tensor, squared: Tensor, room: int
) -> None:
    """Fill in rows from all their distances: the last resort, for crowds of ties."""
    n, d = space.n, space.d
    piece = space.piece(room // 2)
    columns = min(n, max(1, piece // (16 * d)))
    for span in spans_of(len(pending), room // 2 // (32 * n)):
        block = pending[span]
        to_all = torch.empty((len(block), n), dtype=torch.float64, device=space.device)
        own = space.exact(block)
        for others in spans_of(n, columns):
            theirs = space.exact(others)
            for part in spans_of(len(block), piece // (16 * d * columns)):
                differences = theirs - own[part][:, None]
                to_all[part, others] = differences.square_().sum(dim=2)
        to_all[torch.arange(len(block), device=space.device), block] = math.inf
        every_index = torch.arange(n, device=space.device).expand(len(block), n)
        _keep_nearest(block, every_index, to_all, indices, squared)


def _keep_nearest(
    block: Tensor, candidates: Tensor, exact: Tensor, indices: Tensor, squared: Tensor
) -> None:
    # Ranked by the root, because that is what callers see: two squares may differ in the last
    # bit and have one root, and then the index must decide.
    order = exact.sqrt().sort(dim=1, stable=True).indices[:, : indices.shape[1]]
    indices[block] = candidates.gather(1, order).to(torch.int32)
    squared[block] = exact.gather(1, order)
