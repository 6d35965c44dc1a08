"""Logistic regressions side by side, against scikit-learn's one by one."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from layersight.geometry.logistic import Task, logistic_regressions, principal_coordinates


def cloud(n, d, classes, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    x = rng.standard_normal((n, d)) * np.geomspace(10, 0.1, d) + 3
    x[:, :classes] += np.eye(classes)[labels] * 2
    return x, labels


def logits_of(found, rows):
    logits = rows @ found[:-1] + found[-1]
    return logits - logits.mean(axis=1, keepdims=True)


def by_scikit_learn(x, labels, strength, tests):
    probe = LogisticRegression(C=strength, solver="newton-cg", tol=1e-8, max_iter=2000).fit(
        x, labels
    )
    logits = probe.decision_function(tests)
    if logits.ndim == 1:
        return np.stack([-logits / 2, logits / 2], axis=1)
    return logits - logits.mean(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_logits_are_those_of_scikit_learn(classes):
    shapes = [(40, 6, 0.01), (40, 90, 0.1), (33, 20, 1.0), (60, 8, 1e-3)]
    clouds = [cloud(n, d, classes, seed) for seed, (n, d, _) in enumerate(shapes)]
    coordinates = [principal_coordinates(x, x + 0.5) for x, _ in clouds]
    tasks = [Task(rows[0], labels) for rows, (_, labels) in zip(coordinates, clouds, strict=True)]
    strengths = [strength for _, _, strength in shapes]
    together = logistic_regressions(tasks, classes, strengths, tolerance=1e-8)
    warm = logistic_regressions(tasks, classes, strengths, start=together, tolerance=1e-8)
    for i, (x, labels) in enumerate(clouds):
        expected = by_scikit_learn(x, labels, strengths[i], x + 0.5)
        found = logits_of(together[i], coordinates[i][1])
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max() + 1e-7)
        np.testing.assert_allclose(
            logits_of(warm[i], coordinates[i][1]), found, atol=1e-5 * np.abs(expected).max()
        )


def test_a_class_without_rows_is_impossible_and_changes_nothing():
    x, labels = cloud(50, 7, 3, 0)
    rows = principal_coordinates(x)[0]
    (three,) = logistic_regressions([Task(rows, labels)], 3, [0.1], tolerance=1e-8)
    (four,) = logistic_regressions([Task(rows, labels + (labels == 2))], 4, [0.1], tolerance=1e-8)
    assert four[-1, 2] == -np.inf and not four[:-1, 2].any()
    np.testing.assert_allclose(four[:, [0, 1, 3]], three, atol=1e-6)


def test_coordinates_keep_products_and_drop_directions_without_variation():
    x, _ = cloud(30, 100, 3, 1)
    x[:, 50:] = x[:, :50]
    rows, others = principal_coordinates(x, x[:4] + 1)
    assert rows.shape == (30, 29)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(rows @ rows.T, centred @ centred.T, atol=1e-9)
    np.testing.assert_allclose(others @ rows.T, (x[:4] + 1 - x.mean(axis=0)) @ centred.T, atol=1e-8)
    assert principal_coordinates(np.ones((5, 3)))[0].shape == (5, 0)


def test_without_coordinates_the_classes_have_their_shares():
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    (found,) = logistic_regressions([Task(np.empty((60, 0)), labels)], 3, [1.0], tolerance=1e-9)
    chances = np.exp(found[-1]) / np.exp(found[-1]).sum()
    np.testing.assert_allclose(chances, [1 / 6, 1 / 3, 1 / 2], rtol=1e-6)
