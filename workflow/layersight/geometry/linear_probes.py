"""Linear probes: what can be read off representations by a hyperplane, and across modalities.

A probe is an L2 logistic regression (Alain & Bengio 2017). It never sees the items that it is
tested on, neither in the modality it learns from nor in the other one. What a probe owes to the
representation rather than to its own capacity is its selectivity (Hewitt & Liang 2019): its
accuracy minus that of a probe for control labels, which carry no meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from layersight.geometry.logistic import Task, logistic_regressions, principal_coordinates

Vectors = npt.NDArray[np.floating[Any]]
Float64s = npt.NDArray[np.float64]
Labels = npt.NDArray[np.integer[Any]]
Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
"""Rows to train on, rows to test on."""

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""Inverse penalties C that are tried, in ascending order."""
SCALINGS = ("own", "train")
"""Whose mean and standard deviation a modality is standardised with: its own, or those of the
modality that the probe learns from."""


@dataclass(frozen=True)
class HeldOut:
    """What probes say about items that they did not learn from.

    Attributes:
        predictions: test set and scaling (see `SCALINGS`) to labels `(n,)`; every item is predicted
            once, by the probe of the fold that holds it out. Items in no fold's test have -1.
        strengths: the C that each fold chose, `(folds,)`.
    """

    predictions: dict[tuple[str, str], Labels]
    strengths: Float64s


def stratified_folds(labels: Labels, folds: int, rng: np.random.Generator) -> list[Fold]:
    """Split items into folds in which every class has its share, as scikit-learn does.

    Args:
        labels: `(n,)`, every class with at least `folds` items (see `frequent`).
        folds: number of folds, at least 2.
        rng: draws the split.

    Raises:
        ValueError: fewer than two folds, or a class with too few items.
    """
    from sklearn.model_selection import StratifiedKFold

    if folds < 2:
        raise ValueError(f"folds is {folds}; it must be at least 2.")
    if len(labels) == 0 or not frequent(labels, folds).all():
        raise ValueError(f"every class needs at least {folds} items, one for each fold.")
    splitter = StratifiedKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
    return list(splitter.split(np.zeros((len(labels), 1)), labels))


def frequent(labels: npt.NDArray[Any], least: int) -> npt.NDArray[np.bool_]:
    """Mark the items whose class has at least `least` items.

    Args:
        labels: `(n,)`.
        least: number of items.

    Returns:
        `(n,)` bool.
    """
    _, which, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(sizes[which] >= least)


def control_labels(
    labels: npt.NDArray[Any], types: npt.NDArray[Any], rng: np.random.Generator
) -> npt.NDArray[Any]:
    """Labels without meaning: every type gets one at random (Hewitt & Liang 2019, section 2).

    Items of one type share a label, as they would in a task that a probe could learn by heart.
    Labels are drawn independently from the distribution of the true ones over items.

    Args:
        labels: `(n,)`, the true labels.
        types: `(n,)`, such as the subgroup of every item. Where each item is a type of its own,
            nothing can be learned for items held out, and the control is at chance.
        rng: draws the labels.

    Returns:
        `(n,)`, of the dtype of `labels`.

    Raises:
        ValueError: the two differ in length.
    """
    if len(labels) != len(types):
        raise ValueError(f"{len(labels)} labels do not match {len(types)} types.")
    _, which = np.unique(types, return_inverse=True)
    of_type = labels[rng.integers(0, len(labels), size=int(which.max()) + 1)]
    drawn: npt.NDArray[Any] = of_type[which]
    return drawn


def held_out_predictions(
    train: Vectors,
    tests: Mapping[str, Vectors],
    labels: Labels,
    folds: Sequence[Fold],
    *,
    strengths: Sequence[float] = STRENGTHS,
    inner_folds: int = 3,
    chosen: Float64s | None = None,
) -> HeldOut:
    """Predict every item from a probe that learned from the other folds.

    In each fold the features are standardised on its training rows, and C is chosen by the accuracy
    in an inner cross-validation over them (of equal ones the smallest, the strongest penalty). The
    probes are those of scikit-learn's `StandardScaler` and `LogisticRegressionCV`, all folds fitted
    side by side (`logistic.logistic_regressions`).

    Args:
        train: `(n, d)`, what probes learn from.
        tests: name to `(n, d)`, what they are tested on: the same items in the same order, in the
            same basis.
        labels: `(n,)` integers from 0 on.
        folds: rows to train on and to test on, see `stratified_folds`.
        strengths: inverse penalties C to choose from.
        inner_folds: folds of the inner cross-validation.
        chosen: the C of each fold, `(folds,)`, in place of a choice, such as that of the true
            labels for control labels: both probes then have the same capacity. NaN takes the
            smallest of `strengths`.

    Returns:
        The predictions. A fold whose training rows hold one class alone predicts that class, with
        C NaN.

    Raises:
        ValueError: shapes that do not match, or no strength.
    """
    for name, x in {"train": train, **tests}.items():
        if x.ndim != 2 or x.shape != train.shape or len(x) != len(labels):
            raise ValueError(
                f"train and tests must share one shape (n, d) with n labels: {name!r} has "
                f"{x.shape}, train {train.shape}, and there are {len(labels)} labels."
            )
    if not strengths:
        raise ValueError("strengths is empty; give at least one C.")
    predictions: dict[tuple[str, str], Labels] = {
        (name, scaling): np.full(len(labels), -1) for name in tests for scaling in SCALINGS
    }
    used = np.full(len(folds), np.nan)
    classes = int(labels.max()) + 1 if len(labels) else 0
    split: list[tuple[int, dict[tuple[str, str], Float64s]]] = []
    tasks: list[Task] = []
    for index, (learned, held_out) in enumerate(folds):
        found = np.unique(labels[learned])
        if len(found) == 1:
            for predicted in predictions.values():
                predicted[held_out] = found[0]
            continue
        scaler = _scaler(train[learned])
        cases = {}
        for name, x in tests.items():
            own = scaler if x is train else _scaler(x[learned])
            for scaling, scale in zip(SCALINGS, (own, scaler), strict=True):
                cases[name, scaling] = scale.transform(x[held_out].astype(np.float64))
        rows, *others = principal_coordinates(
            scaler.transform(train[learned].astype(np.float64)), *cases.values()
        )
        tasks.append(Task(rows, labels[learned]))
        split.append((index, dict(zip(cases, others, strict=True))))
    if not tasks:
        return HeldOut(predictions, used)
    which = [index for index, _ in split]
    if chosen is None:
        used[which] = _chosen(tasks, classes, sorted(strengths), inner_folds)
    else:
        used[which] = np.where(np.isnan(chosen[which]), min(strengths), chosen[which])
    probes = logistic_regressions(tasks, classes, used[which], tolerance=1e-5)
    for (index, held), probe in zip(split, probes, strict=True):
        for case, rows in held.items():
            predictions[case][folds[index][1]] = _predicted(probe, rows)
    return HeldOut(predictions, used)


def majority_predictions(labels: Labels, folds: Sequence[Fold]) -> Labels:
    """Predict every item as the most frequent label of its fold's training rows.

    What a probe reaches that reads nothing off the representation.

    Args:
        labels: `(n,)` integers from 0 on.
        folds: see `stratified_folds`.

    Returns:
        `(n,)`; -1 for items in no fold's test.
    """
    predicted: Labels = np.full(len(labels), -1)
    for learned, held_out in folds:
        predicted[held_out] = np.bincount(labels[learned]).argmax()
    return predicted


def _scaler(rows: Vectors) -> Any:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit(rows.astype(np.float64))


def _predicted(probe: Float64s, rows: Float64s) -> Labels:
    found: Labels = (rows @ probe[:-1] + probe[-1]).argmax(axis=1)
    return found


def _chosen(
    tasks: Sequence[Task], classes: int, strengths: Sequence[float], inner_folds: int
) -> Float64s:
    """Return the C of each task with the highest accuracy in an inner cross-validation."""
    from sklearn.model_selection import KFold, StratifiedKFold

    parts, tests = [], []
    for task in tasks:
        # Where a class is rarer than the folds are many, classes cannot be shared out.
        shared_out = np.bincount(task.labels)[np.unique(task.labels)].min() >= inner_folds
        splitter = (StratifiedKFold if shared_out else KFold)(
            inner_folds, shuffle=True, random_state=0
        )
        for learned, held_out in splitter.split(task.rows, task.labels):
            rows, others = principal_coordinates(task.rows[learned], task.rows[held_out])
            parts.append(Task(rows, task.labels[learned]))
            tests.append((others, task.labels[held_out]))
    accuracy = np.empty((len(strengths), len(parts)))
    probes = None
    for row, strength in zip(accuracy, strengths, strict=True):
        probes = logistic_regressions(
            parts, classes, [strength] * len(parts), start=probes, tolerance=1e-4
        )
        for i, (probe, (rows, expected)) in enumerate(zip(probes, tests, strict=True)):
            row[i] = np.mean(_predicted(probe, rows) == expected)
    # In whole counts equal accuracies would be equal; as means they are so up to rounding.
    means = accuracy.reshape(len(strengths), len(tasks), inner_folds).mean(axis=2).round(12)
    return np.asarray(strengths)[means.argmax(axis=0)]
