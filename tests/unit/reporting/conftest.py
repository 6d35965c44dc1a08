"""Small made-up tables of a study with four blocks, in the shape of the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import pytest
from tests.conftest import ROOT
from tests.unit.reporting import geometry_frames
from tests.unit.reporting.geometry_frames import PROBES

from layersight.study import BENCHMARKS, Study
from layersight.study_file import load_study

Tables = dict[str, pd.DataFrame]
MakeTables = Callable[..., Tables]

LAYERS = 4
NAN = float("nan")


def subjects_of(variants: Sequence[str], seeds: int) -> list[str]:
    return [f"{variant}/seed-{seed}" for variant in variants for seed in range(seeds)]


def change(tuned: Sequence[str]) -> pd.DataFrame:
    rows = []
    for index, subject in enumerate(tuned):
        for probe, streams in PROBES.items():
            for stream in streams:
                for layer in range(LAYERS + 1):
                    for metric in ("overlap", "cka", "relative_norm"):
                        moved = (0.1 if "text" in probe else 0.2) * layer / (1 + 0.1 * index)
                        value = moved if metric == "relative_norm" else 1 - moved
                        undefined = layer == 0 and stream == "last"
                        value = NAN if undefined else value
                        rows.append(
                            {
                                "subject": subject,
                                "reference": "aligned",
                                "probe": probe,
                                "stream": stream,
                                "layer": layer,
                                "metric": metric,
                                "k": 10 if metric == "overlap" else 0,
                                "n": 1 if undefined else 50,
                                "value": value,
                                "low": value - 0.05,
                                "high": value + 0.05,
                            }
                        )
    return pd.DataFrame(rows)


def cross_modal(subjects: Sequence[str]) -> pd.DataFrame:
    controlled = ("overlap", "overlap_within_group", "cka", "cosine", "cosine_centred")
    metrics = [
        *controlled,
        *(f"{metric}_random_pairs" for metric in controlled),
        "label_overlap_image",
        "label_overlap_text",
    ]
    rows = []
    for index, subject in enumerate(subjects):
        for pair in ("concepts", "questions"):
            for streams in (("last", "last"), ("image_mean", "text_mean")):
                for layer in range(LAYERS + 1):
                    for metric in metrics:
                        value = 0.1 + 0.1 * layer + 0.05 * index
                        value = 0.05 if metric.endswith("random_pairs") else value
                        value = NAN if layer == 0 and streams[0] == "last" else value
                        rows.append(
                            {
                                "pair": pair,
                                "subject": subject,
                                "stream_image": streams[0],
                                "stream_text": streams[1],
                                "layer": layer,
                                "metric": metric,
                                "k": 10 if "overlap" in metric else 0,
                                "n": 50,
                                "value": value,
                                "low": value - 0.02,
                                "high": value + 0.02,
                            }
                        )
    return pd.DataFrame(rows)


def scores(subjects: Sequence[str]) -> pd.DataFrame:
    splits = ("seen_style", "unseen_style", "unseen_concept")
    plan = [
        ("kind_image", splits, [""], ["accuracy"]),
        ("kind_text", ("seen_concept", "unseen_concept"), [""], ["accuracy"]),
        (
            "presence",
            splits,
            ["random", "popular", "adversarial", "all"],
            ["accuracy", "f1", "precision", "recall", "yes_ratio"],
        ),
        ("naming", splits, [""], ["exact_match", "cider"]),
    ]
    rows = []
    for index, subject in enumerate(subjects):
        for benchmark, of_benchmark, conditions, metrics in plan:
            if subject == "base" and benchmark != "kind_text":
                continue
            for split in of_benchmark:
                for condition in conditions:
                    for metric in metrics:
                        value = 0.3 + 0.1 * index
                        rows.append(
                            {
                                "subject": subject,
                                "variant": subject.partition("/")[0],
                                "seed": int(subject[-1]) if "/" in subject else -1,
                                "benchmark": benchmark,
                                "split": split,
                                "condition": condition,
                                "metric": metric,
                                "n": 40,
                                "value": value,
                                "low": value - 0.08,
                                "high": value + 0.08,
                                "chance": NAN if metric == "cider" else 0.25,
                                "majority": NAN if metric == "cider" else 0.2,
                            }
                        )
    return pd.DataFrame(rows)


def differences(scored: pd.DataFrame) -> pd.DataFrame:
    kept = scored[scored["metric"].isin(["accuracy", "exact_match", "cider"])]
    kept = kept[kept["subject"] != "aligned"]
    return kept.assign(
        reference="aligned",
        value=kept["value"] - 0.4,
        low=kept["low"] - 0.4,
        high=kept["high"] - 0.4,
    )[
        ["subject", "reference", "benchmark", "split", "condition", "metric", "n", "value", "low",
         "high"]
    ]  # fmt: skip


def recovery(variants: Sequence[str], seeds: int) -> pd.DataFrame:
    windows = [
        ("reference", 0, 0, "target"),
        ("reference", 0, LAYERS, "donor"),
        ("connector", 0, 0, "donor"),
        ("connector", 0, LAYERS, "donor"),
        *(("cumulative", 0, stop, "target") for stop in (2, 4)),
        *(("sliding", start, start + 2, "target") for start in (0, 2)),
    ]
    rows = []
    for variant in variants:
        for seed in range(seeds):
            for direction in ("tuned_into_base", "base_into_tuned"):
                for sweep, start, stop, connector in windows:
                    for metric in ("accuracy", "logit_margin"):
                        share = (stop - start) / LAYERS + 0.02 * seed
                        value = share if direction == "tuned_into_base" else 1 - share
                        rows.append(
                            {
                                "variant": variant,
                                "seed": seed,
                                "direction": direction,
                                "sweep": sweep,
                                "start": start,
                                "stop": stop,
                                "connector": connector,
                                "metric": metric,
                                "n": 24,
                                "score": 0.3 + 0.3 * value,
                                "score_low": 0.2 + 0.3 * value,
                                "score_high": 0.4 + 0.3 * value,
                                "score_base": 0.3,
                                "score_tuned": 0.6,
                                "recovery": value,
                                "recovery_low": value - 0.1,
                                "recovery_high": value + 0.1,
                                "undefined_share": 0.0,
                            }
                        )
    return pd.DataFrame(rows)


def weight_change(tuned: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": subject,
            "block": block,
            "difference_norm": 0.1 * block,
            "reference_norm": 10.0,
            "relative_change": 0.01 * block,
        }
        for subject in tuned
        for block in range(LAYERS)
    )


def attention(subjects: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": subject,
            "block": block,
            "kind": kind,
            "bos": bos,
            "n": 24,
            "value": value,
            "low": value / 1.2,
            "high": value * 1.2,
        }
        for index, subject in enumerate(subjects)
        for block in range(LAYERS)
        for kind in ("mean", "sum")
        for bos in (False, True)
        for value in [
            0.3 * 2**block * (1 + index) * (0.5 if bos else 1) * (3 if kind == "sum" else 1)
        ]
    )


def attention_summary(subjects: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": subject,
            "kind": kind,
            "bos": bos,
            "n": 24,
            "value": value,
            "low": value - 0.1,
            "high": value + 0.1,
            "distance": abs(value - 1),
            "distance_low": max(0.0, abs(value - 1) - 0.1),
            "distance_high": abs(value - 1) + 0.1,
            "trained_language_model": 100 * index**3,
            "trained_connector": 50,
        }
        for index, subject in enumerate(subjects)
        for kind in ("mean", "sum")
        for bos in (False, True)
        for value in [0.4 + 0.2 * index + (1 if kind == "sum" else 0)]
    )


def training(subjects: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": subject,
            "step": step,
            "loss": 4.0 - 0.1 * step,
            "learning_rate": 1e-3,
            "connector_learning_rate": 1e-3,
            "gradient_norm": 1.0,
            "tokens": 100,
            "answer_tokens": 10,
        }
        for subject in subjects
        for step in range(20)
    )


def geometry(tuned: Sequence[str]) -> Tables:
    pictured = ["aligned", *tuned]
    subjects = ["base", *pictured]
    dense = geometry_frames.density(subjects, LAYERS)
    means, losses = geometry_frames.token_clouds(pictured, LAYERS)
    matrices = geometry_frames.matrix_change(tuned, LAYERS)
    return {
        "intrinsic_dimension": geometry_frames.intrinsic_dimension(subjects, LAYERS),
        "overlap": geometry_frames.overlap(subjects, LAYERS),
        "label_overlap": geometry_frames.label_overlap(subjects, LAYERS),
        "density": dense,
        "density_merges": geometry_frames.density_merges(dense),
        "density_peaks": geometry_frames.density_peaks(dense),
        "alignment": geometry_frames.alignment(subjects, LAYERS),
        "spectrum": geometry_frames.spectrum(subjects, LAYERS),
        "massive": geometry_frames.massive(subjects, LAYERS),
        "linear_probes": geometry_frames.linear_probes(pictured, LAYERS),
        "token_clouds": means,
        "token_cloud_loss": losses,
        "matrix_change": matrices,
        "concentration": geometry_frames.concentrated(change(tuned), matrices),
    }


def of_subjects(frame: pd.DataFrame, failed: Sequence[str]) -> pd.DataFrame:
    if "subject" not in frame and "seed" not in frame:  # over seeds already, of those that are left
        return frame
    subjects = (
        frame["subject"]
        if "subject" in frame
        else frame["variant"] + "/seed-" + frame["seed"].astype(str)
    )
    return frame[~subjects.isin(failed)]


def of_choice(frame: pd.DataFrame, probes: Sequence[str], tasks: Sequence[str]) -> pd.DataFrame:
    if "probe" in frame:
        pooled = {"concepts"} | ({"questions"} if len(probes) == len(PROBES) else set())
        frame = frame[frame["probe"].isin([*probes, *pooled, ""])]
    if "reference_probe" in frame:
        frame = frame[frame["reference_probe"].isin(probes)]
    if "benchmark" in frame:
        frame = frame[frame["benchmark"].isin(tasks)]
    if "pair" in frame and not {"visual_questions", "text_questions"} <= set(probes):
        frame = frame[frame["pair"] == "concepts"]
    return frame


@pytest.fixture(scope="session")
def attentive() -> Study:
    """The smoke study with attention measured."""
    return load_study(ROOT / "config/studies/smoke.yaml", {"attention": {}})


@pytest.fixture(scope="session")
def make_tables() -> MakeTables:
    """Make all tables of a study with some variants and seeds.

    Rows of `failed` subjects and of other probe sets and benchmarks are left out.
    """

    def make(
        variants: Sequence[str] = ("full", "lora"),
        seeds: int = 1,
        *,
        failed: Sequence[str] = (),
        probes: Sequence[str] = tuple(PROBES),
        tasks: Sequence[str] = BENCHMARKS,
    ) -> Tables:
        tuned = subjects_of(variants, seeds)
        scored = scores(["base", "aligned", *tuned])
        tables = {
            "scores": scored,
            "differences": differences(scored),
            "recovery": recovery(variants, seeds),
            **geometry([subject for subject in tuned if subject not in failed]),
            "cross_modal": cross_modal(["aligned", *tuned]),
            "change": change(tuned),
            "weight_change": weight_change(tuned),
            "training": training(["aligned", *tuned]),
            "attention": attention(["aligned", *tuned]),
            "attention_summary": attention_summary(["aligned", *tuned]),
        }
        return {
            name: of_choice(of_subjects(frame, failed), probes, tasks).reset_index(drop=True)
            for name, frame in tables.items()
        }

    return make
