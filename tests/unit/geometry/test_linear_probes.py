"""Linear probes, against scikit-learn's own pipeline and against planted representations."""

import warnings

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from layersight.geometry.linear_probes import (
    STRENGTHS,
    control_labels,
    frequent,
    held_out_predictions,
    majority_predictions,
    stratified_folds,
)

N = 90
LABELS = np.arange(N) % 3
SUBGROUPS = np.arange(N) % 9  # three of each label


def folds_of(labels, seed=0, folds=5):
    return stratified_folds(labels, folds, np.random.default_rng(seed))


def separated(d, seed, distance=1.5, labels=LABELS):
    """Gaussian clouds around one random centre a label."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((labels.max() + 1, d)) * distance / np.sqrt(d)
    return (centres[labels] * 3 + rng.standard_normal((len(labels), d))).astype(np.float32)


def accuracy(found, labels, test="x", scaling="own"):
    return np.mean(found.predictions[test, scaling] == labels)


@pytest.mark.parametrize("d", [8, 150])  # more rows than features, and fewer
@pytest.mark.parametrize("classes", [2, 3])
def test_predictions_are_those_of_scikit_learns_pipeline(d, classes):
    labels = np.arange(N) % classes
    x = separated(d, 1, distance=0.8, labels=labels) * np.linspace(0.1, 10, d, dtype=np.float32)
    folds = folds_of(labels)
    found = held_out_predictions(x, {"x": x}, labels, folds)
    probe = LogisticRegressionCV(
        Cs=STRENGTHS, cv=StratifiedKFold(3, shuffle=True, random_state=0), scoring="accuracy",
        l1_ratios=(0,), max_iter=5000, tol=1e-8, use_legacy_attributes=False,
    )  # fmt: skip
    pipeline = make_pipeline(StandardScaler(), probe)
    expected = cross_val_predict(pipeline, x.astype(np.float64), labels, cv=folds)
    np.testing.assert_array_equal(found.predictions["x", "own"], expected)
    assert 1.2 / classes < accuracy(found, labels) < 1
    chosen = [pipeline.fit(x[rows].astype(float), labels[rows])[-1].C_ for rows, _ in folds]
    np.testing.assert_array_equal(found.strengths, chosen)


def test_noise_is_at_chance_although_more_features_than_items_separate_it():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((300, 400))
    labels = rng.integers(0, 2, 300)
    found = held_out_predictions(x, {"x": x}, labels, folds_of(labels))
    # Five standard deviations of a fair coin.
    assert abs(accuracy(found, labels) - 0.5) < 5 * 0.5 / np.sqrt(300)


def test_a_direction_shared_by_both_modalities_carries_over_and_an_unrelated_one_does_not():
    image = separated(60, 2, distance=2)
    shared = image + np.random.default_rng(3).standard_normal((N, 60)).astype(np.float32)
    unrelated = separated(60, 4, distance=2)
    found = held_out_predictions(
        image, {"x": image, "shared": shared, "unrelated": unrelated}, LABELS, folds_of(LABELS)
    )
    assert accuracy(found, LABELS) > 0.95
    assert accuracy(found, LABELS, "shared") > 0.95
    assert accuracy(found, LABELS, "unrelated") < 0.7


def test_a_gap_between_modalities_is_removed_by_their_own_scaling_alone():
    image = separated(60, 2, distance=2)
    found = held_out_predictions(image, {"x": 5 * image + 40}, LABELS, folds_of(LABELS))
    assert accuracy(found, LABELS, scaling="own") > 0.95
    assert accuracy(found, LABELS, scaling="train") < 0.7


def test_an_item_is_held_out_in_the_other_modality_too():
    rng = np.random.default_rng(6)
    image = rng.standard_normal((N, 200)).astype(np.float32)
    labels = rng.permutation(LABELS)
    # The other modality is a copy: a probe that had seen the item would know its label.
    found = held_out_predictions(image, {"copy": image.copy()}, labels, folds_of(labels))
    assert accuracy(found, labels, "copy") < 1 / 3 + 5 * np.sqrt(2 / 9 / N)


def test_identical_vectors_give_the_most_frequent_label():
    labels = np.repeat([0, 1], [60, 30])
    x = np.full((N, 4), 1e3 + 0.1, np.float32)
    folds = folds_of(labels)
    found = held_out_predictions(x, {"x": x}, labels, folds)
    np.testing.assert_array_equal(found.predictions["x", "own"], 0)


def test_the_majority_is_scikit_learns_dummy():
    labels = np.random.default_rng(0).choice(4, 97, p=[0.4, 0.3, 0.2, 0.1])
    folds = folds_of(labels, folds=3)
    dummy = DummyClassifier(strategy="most_frequent")
    expected = cross_val_predict(dummy, np.zeros((97, 1)), labels, cv=folds)
    np.testing.assert_array_equal(majority_predictions(labels, folds), expected)


def test_control_labels_are_one_a_type_and_distributed_as_the_labels():
    labels = np.repeat([0, 1], [80, 20])
    types = np.arange(100)
    rng = np.random.default_rng(0)
    drawn = np.array([control_labels(labels, types, rng) for _ in range(200)])
    # Expected 0.2, with a standard deviation of sqrt(0.16 / 20000) = 0.0028.
    assert drawn.mean() == pytest.approx(0.2, abs=0.014)
    grouped = control_labels(LABELS, SUBGROUPS, rng)
    for subgroup in range(9):
        assert len(set(grouped[subgroup == SUBGROUPS])) == 1


def test_a_representation_of_types_has_no_selectivity_and_one_of_labels_has():
    rng = np.random.default_rng(1)
    control = control_labels(LABELS, SUBGROUPS, np.random.default_rng(11))
    assert len(set(control)) == 3
    noise = 0.1 * rng.standard_normal((N, 9))
    by_type = np.eye(9)[SUBGROUPS] + noise
    by_label = np.eye(9)[LABELS] + noise
    folds = folds_of(LABELS)
    reached = {
        name: (
            accuracy(held_out_predictions(x, {"x": x}, LABELS, folds), LABELS),
            accuracy(held_out_predictions(x, {"x": x}, control, folds), control),
        )
        for name, x in {"type": by_type, "label": by_label}.items()
    }
    assert reached["type"] == (1, 1)
    assert reached["label"][0] == 1
    assert reached["label"][1] < 0.75


def test_rare_and_single_classes_of_control_labels_are_no_error():
    x = separated(30, 1)
    lonely = np.zeros(N, int)
    lonely[0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = held_out_predictions(x, {"x": x}, lonely, folds_of(LABELS))
        alone = held_out_predictions(x, {"x": x}, np.ones(N, int), folds_of(LABELS))
    assert (found.predictions["x", "own"] >= 0).all()
    np.testing.assert_array_equal(alone.predictions["x", "own"], 1)
    assert np.isnan(alone.strengths).all()


def test_folds_need_every_class_in_each_of_them():
    labels = np.repeat([0, 1], [20, 4])
    np.testing.assert_array_equal(frequent(labels, 5), labels == 0)
    with pytest.raises(ValueError, match="at least 5 items"):
        folds_of(labels)
    with pytest.raises(ValueError, match="at least 2"):
        folds_of(labels, folds=1)


def test_shapes_must_agree():
    x = np.ones((4, 2))
    with pytest.raises(ValueError, match="share one shape"):
        held_out_predictions(x, {"x": np.ones((4, 3))}, np.arange(4) % 2, [])
    with pytest.raises(ValueError, match="do not match"):
        control_labels(np.arange(3), np.arange(2), np.random.default_rng(0))
