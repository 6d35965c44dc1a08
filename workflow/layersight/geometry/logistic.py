"""Many small L2 logistic regressions at once, to their optimum.

A study fits tens of thousands of probes with a hundred rows each. scikit-learn takes most of that
time in Python, one fit after the other; here all fits of a layer take their steps together. The
objective, and so the optimum, is that of `sklearn.linear_model.LogisticRegression`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float64s = npt.NDArray[np.float64]
Codes = npt.NDArray[np.integer[Any]]
Rows = npt.NDArray[np.intp]

_MEMORY = 10
_MOST_STEPS = 1000
_SUFFICIENT = 1e-4
_HALVINGS = 30
_LOWEST = -1e300


@dataclass(frozen=True)
class Task:
    """One regression in principal coordinates, see `principal_coordinates`.

    Attributes:
        rows: `(n, r)` float64, columns orthogonal and with mean 0.
        labels: `(n,)` integers from 0 on.
    """

    rows: Float64s
    labels: Codes


def principal_coordinates(rows: Float64s, *others: Float64s) -> list[Float64s]:
    """Coordinates along the principal directions of some rows, of them and of others.

    The L2 penalty keeps the weights in the span of the rows and does not change under rotation
    (representer theorem), and the intercept takes up the shift: a regression on the coordinates is
    that on the features.

    Args:
        rows: `(n, d)`.
        others: `(m, d)` each; moved by the mean of `rows`.

    Returns:
        `(n, r)`, then `(m, r)` for each of the others, with r <= min(n - 1, d) directions; those
        that rounding leaves of zero ones are dropped.
    """
    mean = rows.mean(axis=0)
    centred = rows - mean
    n, d = centred.shape
    values, vectors = np.linalg.eigh(centred @ centred.T if n <= d else centred.T @ centred)
    kept = values > max(n, d) * 10 * np.finfo(np.float64).eps * values.max(initial=0.0)
    directions = vectors[:, kept]
    if n <= d:
        directions = centred.T @ (directions / np.sqrt(values[kept]))
    return [centred @ directions, *((other - mean) @ directions for other in others)]


def logistic_regressions(
    tasks: Sequence[Task],
    classes: int,
    strengths: Sequence[float] | Float64s,
    *,
    start: Sequence[Float64s] | None = None,
    tolerance: float = 1e-5,
) -> list[Float64s]:
    """Fit all tasks: minimise C sum_i loss_i + ||w||^2 / 2 (no penalty on the intercept).

    The loss is the cross-entropy of the softmax, for two classes the logistic one. Steps are those
    of L-BFGS (Liu & Nocedal 1989) in coordinates scaled by the bound on the Hessian
    (I - 11^T / K) / 2 (x) X^T X of Bohning 1992, diagonal here, which leaves it few steps to do.

    Args:
        tasks: what to fit; may differ in rows and columns.
        classes: number of classes K, at least 2. A class without rows in a task is impossible
            there.
        strengths: inverse penalty C of each task.
        start: weights to start from, as returned; zeros otherwise.
        tolerance: largest entry of the gradient, in the scaled coordinates, for C of 0.1 and more;
            below in proportion to C, as the logits are.

    Returns:
        `(r + 1, K)` for each task, the intercepts in the last row, -inf of impossible classes:
        `coordinates @ found[:-1] + found[-1]` are logits, up to a constant.
    """
    penalty = 1 / np.asarray(strengths, dtype=np.float64)
    precision = tolerance * np.minimum(1.0, 10 / penalty)
    if classes == 2:
        # The softmax has the weights w / 2 and -w / 2 in place of w, and half the penalty.
        penalty = 2 * penalty
    n = max(len(task.rows) for task in tasks)
    r = max(task.rows.shape[1] for task in tasks)
    count = len(tasks)
    x = np.zeros((count, n, r + 1))
    target = np.zeros((count, n, classes))
    possible = np.zeros((count, 1, classes), dtype=np.bool_)
    begin = np.zeros((count, r + 1, classes))
    for i, task in enumerate(tasks):
        rows, columns = task.rows.shape
        x[i, :rows, :columns] = task.rows
        x[i, :rows, -1] = 1.0
        target[i, np.arange(rows), task.labels] = 1.0
        possible[i, 0, task.labels] = True
        if start is not None:
            begin[i, :columns] = start[i][:-1]
            begin[i, -1] = np.where(np.isfinite(start[i][-1]), start[i][-1], 0.0)
    weight = x[:, :, -1:].copy()
    ridge = np.repeat(penalty[:, np.newaxis, np.newaxis], r + 1, axis=1)
    ridge[:, -1] = 0.0
    impossible = np.where(possible, 0.0, -np.inf)
    scale = 1 / np.sqrt(np.einsum("bnr,bnr->br", x, x)[:, :, np.newaxis] / 2 + ridge)
    x *= scale.transpose(0, 2, 1)
    ridge *= scale**2

    kept: list[Any] = []

    def evaluate(which: Rows, flat: Float64s) -> tuple[Float64s, Float64s]:
        v = flat.reshape(len(which), r + 1, classes)
        if len(kept) == 0 or not np.array_equal(kept[0], which):
            whole = len(which) == count
            arrays = (x, target, weight, impossible, ridge)
            kept[:] = [which, *(one if whole else one[which] for one in arrays)]
        _, a, y, w, extra, penalties = kept
        logits = a @ v
        logits += extra
        logits -= logits.max(axis=2, keepdims=True)
        chances = np.exp(logits)
        total = chances.sum(axis=2, keepdims=True)
        chances *= w / total
        true = np.einsum("bnk,bnk->b", y, np.maximum(logits, _LOWEST))
        bent = penalties * v
        value = (np.log(total) * w).sum(axis=(1, 2)) - true
        value += np.einsum("bpk,bpk->b", bent, v) / 2
        chances -= y
        bent += a.transpose(0, 2, 1) @ chances
        return value, bent.reshape(len(which), -1)

    begin = (begin / scale).reshape(count, -1)
    found = _minimised(evaluate, begin, precision).reshape(count, r + 1, classes) * scale
    found[:, -1] += impossible[:, 0]
    return [
        np.concatenate([found[i, : task.rows.shape[1]], found[i, -1:]])
        for i, task in enumerate(tasks)
    ]


def _minimised(
    evaluate: Callable[[Rows, Float64s], tuple[Float64s, Float64s]],
    x: Float64s,
    tolerance: Float64s,
) -> Float64s:
    """Minimise smooth convex functions side by side, `(count, size)` from `x` on."""
    result = x.copy()
    which = np.arange(len(x))
    value, slope = evaluate(which, x)
    moves: list[Float64s] = []
    turns: list[Float64s] = []
    curvatures: list[Float64s] = []
    for _ in range(_MOST_STEPS):
        going = np.abs(slope).max(axis=1) > tolerance
        if not going.all():
            result[which] = x
            if not going.any():
                return result
            tolerance = tolerance[going]
            which, x, value, slope = which[going], x[going], value[going], slope[going]
            moves, turns, curvatures = (
                [one[going] for one in kept] for kept in (moves, turns, curvatures)
            )
        direction = _direction(slope, moves, turns, curvatures)
        descent = np.einsum("bp,bp->b", direction, slope)
        uphill = descent >= 0
        direction[uphill] = -slope[uphill]
        descent[uphill] = -np.einsum("bp,bp->b", slope[uphill], slope[uphill])
        step = np.ones(len(which))
        after = x + direction
        new_value, new_slope = evaluate(which, after)
        for _ in range(_HALVINGS):
            # Rounding of the sum over rows is no rise.
            limit = value + _SUFFICIENT * step * descent + 1e-14 * np.abs(value)
            short = np.flatnonzero(~(new_value <= limit))
            if not len(short):
                break
            step[short] /= 2
            after[short] = x[short] + step[short, np.newaxis] * direction[short]
            new_value[short], new_slope[short] = evaluate(which[short], after[short])
        move, turn = after - x, new_slope - slope
        product = np.einsum("bp,bp->b", move, turn)
        moves.append(move)
        turns.append(turn)
        curvatures.append(
            np.divide(1.0, product, out=np.zeros(len(product)), where=product > 1e-300)
        )
        moves, turns, curvatures = moves[-_MEMORY:], turns[-_MEMORY:], curvatures[-_MEMORY:]
        x, value, slope = after, new_value, new_slope
    result[which] = x
    return result


def _direction(
    slope: Float64s, moves: list[Float64s], turns: list[Float64s], curvatures: list[Float64s]
) -> Float64s:
    """Minus the slope times the inverse Hessian as the last moves tell it."""
    direction = -slope
    shares = []
    for move, turn, curvature in zip(moves[::-1], turns[::-1], curvatures[::-1], strict=True):
        share = curvature * np.einsum("bp,bp->b", move, direction)
        direction -= share[:, np.newaxis] * turn
        shares.append(share)
    if moves:
        squares = np.einsum("bp,bp->b", turns[-1], turns[-1]) * curvatures[-1]
        direction *= np.divide(1.0, squares, out=np.ones_like(squares), where=squares > 0)[
            :, np.newaxis
        ]
    for move, turn, curvature, share in zip(moves, turns, curvatures, shares[::-1], strict=True):
        back = curvature * np.einsum("bp,bp->b", turn, direction)
        direction += (share - back)[:, np.newaxis] * move
    return direction
