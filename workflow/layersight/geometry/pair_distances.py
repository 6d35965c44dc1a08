"""Squared distances of chosen pairs of rows in float64: by products, and by differences in doubt.

A product reads each vector once and needs no memory for the pair, which is several times as fast as
a difference. It loses digits where two vectors are near to each other and far from the centre, and
it may order two neighbours wrongly that are equally far. Such pairs are measured by difference, so
that the order is always that of the differences.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from layersight.geometry.tensor_work import Workers, spans_of

# Columns of one product: their rows stay in the cache.
_TILE_ROWS = 1024
# Rows whose mean is the centre, and how many of them are read at a time.
_CENTRE_ROWS, _CENTRE_SPAN = 256, 8
# A squared distance below this share of both squared lengths is measured by difference.
_LEAST_SHARE = 1 / 16


class Rows(Protocol):
    """Vectors that can be read in float64; see `neighbour_search`."""

    n: int
    d: int
    device: torch.device
    workers: Workers

    def exact(self, which: slice | Tensor) -> Tensor:
        """Return rows in float64, in memory of their own."""
        ...


class PairDistances:
    """Squared distances between rows and their candidates.

    With unit round-off u and T the sum of both squared lengths from the centre, the product form
    ||x||^2 + ||y||^2 - 2 x.y is off by at most 2 gamma T, gamma = (d + 8) u (Higham 2002, section
    3.1); where it is at least T / 16, by 32 gamma of itself. Neighbours nearer to each other in
    rank than twice that are measured by difference. The bits of a distance depend on its two
    vectors alone (and on whether another candidate is as far), not on how rows are cut into blocks.

    Args:
        rows: the vectors.
        room: bytes that may be allocated, besides what `squared` returns.
    """

    def __init__(self, rows: Rows, room: int) -> None:
        self.rows = rows
        self.room = room
        self.tile = max(1, min(_TILE_ROWS, room // (32 * rows.d)))
        self.gap = 64 * (rows.d + 8) * torch.finfo(torch.float64).eps / 2
        self.by_products = rows.device.type == "cpu" and _products_of_pairs()
        if not self.by_products:
            return
        chosen = torch.arange(0, rows.n, -(-rows.n // _CENTRE_ROWS))
        self.centre = torch.zeros(rows.d, dtype=torch.float64)
        for span in spans_of(len(chosen), _CENTRE_SPAN):
            self.centre += rows.exact(chosen[span]).sum(dim=0)
        self.centre /= len(chosen)
        self.lengths = torch.empty(rows.n, dtype=torch.float64)
        for span in spans_of(rows.n, self.tile):
            self.lengths[span] = self._centred(span).square_().sum(dim=1)

    def squared(self, block: Tensor, candidates: Tensor) -> Tensor:
        """Return the squared distances `(b, c)` float64 of rows to their candidates.

        Args:
            block: `(b,)`, rows.
            candidates: `(b, c)`, rows, every row's ascending.
        """
        if not self.by_products:
            every = torch.ones_like(candidates, dtype=torch.bool)
            found = torch.empty(candidates.shape, dtype=torch.float64, device=candidates.device)
            return self._by_difference(block, candidates, every, found)
        both = self.lengths[block][:, None] + self.lengths[candidates]
        found = both - 2 * self._products(block, candidates)
        doubtful = found < _LEAST_SHARE * both
        ranked, order = found.sort(dim=1)
        near = ranked[:, 1:] - ranked[:, :-1] <= self.gap * ranked[:, 1:]
        beside = torch.zeros_like(doubtful)
        beside[:, 1:] |= near
        beside[:, :-1] |= near
        doubtful |= torch.zeros_like(doubtful).scatter_(1, order, beside)
        return self._by_difference(block, candidates, doubtful, found)

    def _centred(self, which: slice | Tensor) -> Tensor:
        exact = self.rows.exact(which)
        exact -= self.centre
        return exact

    def _products(self, block: Tensor, candidates: Tensor) -> Tensor:
        found = torch.empty(candidates.shape, dtype=torch.float64)
        own = self._centred(block)
        # Rows of candidates are ascending, so a tile of columns is a run of each.
        first = torch.zeros(len(block), 1, dtype=torch.int64)
        for tile in spans_of(self.rows.n, self.tile):
            edge = torch.full((len(block), 1), tile.stop)
            last = torch.searchsorted(candidates, edge)
            counts = (last - first)[:, 0]
            total = int(counts.sum())
            if total:
                ends = counts.cumsum(0)
                starts = first[:, 0] - (ends - counts)
                place = torch.arange(total) + starts.repeat_interleave(counts)
                row = torch.arange(len(block)).repeat_interleave(counts)
                columns = candidates[row, place] - tile.start
                bounds = torch.cat([torch.zeros(1, dtype=torch.int64), ends])
                found[row, place] = _dots(own, self._centred(tile), bounds, columns)
            first = last
        return found

    def _by_difference(
        self, block: Tensor, candidates: Tensor, chosen: Tensor, found: Tensor
    ) -> Tensor:
        rows, d = self.rows, self.rows.d
        row, place = chosen.nonzero(as_tuple=True)
        length = max(1, self.room // rows.workers.count // (32 * d))

        def work(mine: slice) -> None:
            for span in spans_of(mine.stop - mine.start, length):
                part = slice(mine.start + span.start, mine.start + span.stop)
                there = rows.exact(candidates[row[part], place[part]])
                there -= rows.exact(block[row[part]])
                found[row[part], place[part]] = there.square_().sum(dim=1)

        if len(row):
            rows.workers.share(work, len(row))
        return found


def _dots(own: Tensor, theirs: Tensor, bounds: Tensor, columns: Tensor) -> Tensor:
    """Dot products of rows of `own` with chosen rows of `theirs`, row by row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # sparse tensors call themselves beta
        pattern = torch.sparse_csr_tensor(
            bounds,
            columns,
            torch.zeros(len(columns), dtype=own.dtype),
            size=(len(own), len(theirs)),
            check_invariants=False,
        )
        return torch.sparse.sampled_addmm(pattern, own, theirs.T, beta=0.0).values()


@cache
def _products_of_pairs() -> bool:
    """Whether this build of torch has products of chosen pairs on the CPU."""
    one = torch.ones(1, 1, dtype=torch.float64)
    index = torch.zeros(1, dtype=torch.int64)
    try:
        return float(_dots(one, one, torch.tensor([0, 1]), index)[0]) == 1.0
    except RuntimeError:
        return False
