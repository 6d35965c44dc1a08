"""Made-up tables of the geometry toolbox, in the columns of the real ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from layersight.geometry.concentration import CONCENTRATION, concentration_table
from layersight.geometry.graph_tables import DIMENSION
from layersight.geometry.linear_probe_tables import LINEAR_PROBES
from layersight.geometry.overlap_tables import LABEL_OVERLAP, OVERLAP
from layersight.geometry.tables_density import (
    DENSITY_COLUMNS,
    DENSITY_MERGE_COLUMNS,
    DENSITY_PEAK_COLUMNS,
)
from layersight.geometry.tables_shape import (
    MASSIVE_TABLE_COLUMNS,
    PAIR_COLUMNS,
    SPECTRUM_COLUMNS,
)
from layersight.geometry.token_cloud_tables import TOKEN_CLOUD_LOSS, TOKEN_CLOUD_MEANS
from layersight.tuning.matrix_change import MATRIX_CHANGE

NAN = math.nan
PROBES = {
    "visual_questions": ("last", "image_mean", "text_mean"),
    "text_questions": ("last", "text_mean"),
    "pair_images": ("last", "image_mean"),
    "pair_texts": ("last", "text_mean"),
}
PAIRS = (
    ("concepts", "pair_images", "pair_texts", "image_mean", "text_mean"),
    ("concepts", "pair_images", "pair_texts", "last", "last"),
    ("questions", "visual_questions", "text_questions", "last", "last"),
)
KS = (1, 5, 10)
ALIGNMENT_COLUMNS = [
    "comparison", "subject", "reference", "probe", "reference_probe", "stream",
    "reference_stream", *PAIR_COLUMNS,
]  # fmt: skip
MATRICES = ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight")


def hump(layer: int, layers: int) -> float:
    """0 at both ends, 1 in the middle."""
    return math.sin(math.pi * layer / layers)


def clouds(
    subjects: Sequence[str], layers: int, last_only: bool = False
) -> Iterator[tuple[int, dict[str, Any], bool]]:
    """Yield the subject's place, a key, and whether the cloud has one vector only."""
    for index, subject in enumerate(subjects):
        for probe, streams in PROBES.items():
            if subject == "base" and "text" not in probe:
                continue
            for stream in streams[:1] if last_only else streams:
                for layer in range(layers + 1):
                    key = {"subject": subject, "probe": probe, "stream": stream, "layer": layer}
                    yield index, key, layer == 0 and stream == "last"


def ends(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def intrinsic_dimension(subjects: Sequence[str], layers: int) -> pd.DataFrame:
    scales = [
        ("two_nn", 1, 2, 1), ("two_nn_ml", 1, 2, 1),
        *(("gride", n2 // 2, n2, 1) for n2 in (2, 4, 8, 16)),
        *(("two_nn_decimated", 1, 2, parts) for parts in (1, 2, 4)),
    ]  # fmt: skip
    rows = []
    for index, key, undefined in clouds(subjects, layers):
        for estimator, n1, n2, parts in scales:
            value = 5 + 6 * hump(key["layer"], layers) + 0.8 * index - 0.05 * n2 - 0.5 * parts
            value = NAN if undefined else value
            rows.append(
                {
                    **key,
                    "estimator": estimator,
                    "n1": n1,
                    "n2": n2,
                    "parts": parts,
                    "scale": 1.0,
                    "n": 1 if undefined else 100,
                    "used": 1.0,
                    "copies": 99 if undefined else 0,
                    "zeros": 0,
                    "coincident": 0,
                    "dimension": value,
                    "low": value - 0.4,
                    "high": value + 0.4,
                    "interval": "asymptotic" if "two_nn" in estimator else "bootstrap",
                    "spread": 0.04,
                    "plateau": not undefined
                    and (
                        (estimator == "gride" and n2 == 8)
                        or (estimator == "two_nn_decimated" and parts == 2)
                    ),
                }
            )
    frame = pd.DataFrame(rows, columns=DIMENSION.names)
    frame.loc[~frame["plateau"], "spread"] = NAN
    return frame


def overlap(subjects: Sequence[str], layers: int) -> pd.DataFrame:
    tuned = [subject for subject in subjects if "/" in subject]
    sides: list[tuple[int, dict[str, Any]]] = []
    for index, key, _ in clouds(tuned, layers):
        other = {"reference": "aligned", "reference_layer": key["layer"]}
        sides.append((index, {"comparison": "tuned_base", **key, **other}))
    for index, key, _ in clouds(subjects, layers - 1):
        other = {"reference": key["subject"], "reference_layer": key["layer"] + 1}
        sides.append((index, {"comparison": "consecutive", **key, **other}))
    sides = [
        (index, key | {"reference_probe": key["probe"], "reference_stream": key["stream"]})
        for index, key in sides
    ]
    for index, subject in enumerate(subjects):
        if subject == "base":
            continue
        for _, probe, other_probe, stream, other_stream in PAIRS:
            for layer in range(layers + 1):
                key = {
                    "comparison": "image_text",
                    "subject": subject,
                    "reference": subject,
                    "probe": probe,
                    "reference_probe": other_probe,
                    "stream": stream,
                    "reference_stream": other_stream,
                    "layer": layer,
                    "reference_layer": layer,
                }
                sides.append((index, key))
    rows = []
    for index, key in sides:
        undefined = key["layer"] == 0 and key["stream"] == "last"
        for k in KS:
            moved = hump(key["layer"], layers) * 10 / (10 + k) / (1 + 0.2 * index)
            value = 0.1 + 0.5 * moved if key["comparison"] == "image_text" else 1 - 0.8 * moved
            value, chance = (NAN, NAN) if undefined else (value, k / 99)
            rows.append(
                {
                    **key,
                    "k": k,
                    "n": 1 if undefined else 100,
                    **ends(value, 0.03),
                    "random_pairs": chance,
                    "random_low": chance - 0.01,
                    "random_high": chance + 0.01,
                    "chance": chance,
                }
            )
    return pd.DataFrame(rows, columns=OVERLAP.names)


def label_overlap(subjects: Sequence[str], layers: int) -> pd.DataFrame:
    rows = []
    for index, key, undefined in clouds(subjects, layers):
        labels = ("kind", "answer") if "questions" in key["probe"] else ("kind",)
        for label in labels:
            for weighting in ("items", "classes"):
                for k, fraction in ((5, NAN), (10, NAN), (0, 0.3)):
                    value = 0.2 + 0.5 * key["layer"] / layers - 0.03 * index - 0.005 * k
                    rows.append(
                        {
                            **key,
                            "label": label,
                            "weighting": weighting,
                            "k": k,
                            "class_fraction": fraction,
                            "n": 1 if undefined else 100,
                            "classes": 4,
                            **ends(NAN if undefined else value, 0.03),
                            "chance": 0.25,
                        }
                    )
    return pd.DataFrame(rows, columns=LABEL_OVERLAP.names)


def density(subjects: Sequence[str], layers: int) -> pd.DataFrame:
    rows = []
    agreements = ("ari", "homogeneity", "completeness")

    def add(key: dict[str, Any], labels: str, metric: str, value: float, n: int) -> None:
        rows.append(
            {**key, "metric": metric, "labels": labels, "k": 8, "n": n, **ends(value, 0.04)}
        )

    def of_labels(key: dict[str, Any], label: str, value: float, n: int) -> None:
        for name in agreements:
            add(key, label, name, value, n)
            add(key, label, f"{name}_permuted", value * 0 + 0.02, n)

    for index, key, undefined in clouds(subjects, layers):
        bend, n = hump(key["layer"], layers), 1 if undefined else 100
        shift = NAN if undefined else 0.0
        add(key, "", "peaks", shift + round(2 + 4 * bend), n)
        add(key, "", "core_fraction", shift + 0.8 - 0.3 * bend, n)
        add(key, "", "dimension", shift + 6.0, n)
        of_labels(key, "kind", shift + 0.1 + 0.5 * bend - 0.04 * index, n)
    for index, subject in enumerate(subjects):
        if subject == "base":
            continue
        for probe, _, _, stream, _ in PAIRS:
            for layer in range(1, layers + 1):
                key = {"subject": subject, "probe": probe, "stream": stream, "layer": layer}
                of_labels(key, "modality", 0.95 - 0.6 * layer / layers - 0.03 * index, 200)
    return pd.DataFrame(rows, columns=DENSITY_COLUMNS)


def density_peaks(frame: pd.DataFrame) -> pd.DataFrame:
    """Peaks of a table of density."""
    rows = []
    counts = frame[(frame["metric"] == "peaks") & frame["value"].notna()]
    for row in counts.itertuples(index=False):
        rows += [
            {
                "subject": row.subject,
                "probe": row.probe,
                "stream": row.stream,
                "layer": row.layer,
                "labels": "kind",
                "peak": peak,
                "item_id": f"item-{peak}",
                "log_density": 9.0 - peak,
                "items": 40 - 2 * peak,
                "core_items": 20 - peak,
                "label": ("animal", "plant", "vehicle")[peak % 3],
                "label_share": 0.9 - 0.05 * (peak % 10),
            }
            for peak in range(int(row.value))
        ]
    return pd.DataFrame(rows, columns=DENSITY_PEAK_COLUMNS)


def density_merges(frame: pd.DataFrame) -> pd.DataFrame:
    """Merges of a table of density: each peak joins those before it."""
    rows = []
    counts = frame[(frame["metric"] == "peaks") & frame["value"].notna()]
    for row in counts.itertuples(index=False):
        p = int(row.value)
        rows += [
            {
                "subject": row.subject,
                "probe": row.probe,
                "stream": row.stream,
                "layer": row.layer,
                "merge": merge,
                "left": 0 if merge == 0 else p + merge - 1,
                "right": merge + 1,
                "height": 1.0 + 0.7 * merge,
                "peaks": merge + 2,
            }
            for merge in range(p - 1)
        ]
    return pd.DataFrame(rows, columns=DENSITY_MERGE_COLUMNS)


def alignment(subjects: Sequence[str], layers: int) -> pd.DataFrame:
    keys: list[tuple[int, dict[str, str], float]] = []
    for index, subject in enumerate(subjects):
        if subject == "base":
            continue
        for _, probe, other, stream, other_stream in PAIRS:
            key = {
                "comparison": "image_text",
                "subject": subject,
                "reference": subject,
                "probe": probe,
                "reference_probe": other,
                "stream": stream,
                "reference_stream": other_stream,
            }
            keys.append((index, key, 0.2))
        if "/" in subject:
            for probe in PROBES:
                key = {
                    "comparison": "tuned_base",
                    "subject": subject,
                    "reference": "aligned",
                    "probe": probe,
                    "reference_probe": probe,
                    "stream": "last",
                    "reference_stream": "last",
                }
                keys.append((index, key, 0.6))
    rows = []
    for index, key, level in keys:
        for layer in range(1, layers + 1):
            bend = hump(layer, layers) / (1 + 0.1 * index)
            values = {
                "svcca": level + 0.3 * bend,
                "svcca_random_pairs": 0.15,
                "cosine_mean": level + 0.2 * bend,
                "cosine_median": level + 0.22 * bend,
                "cosine_random_pairs_median": level + 0.1 * bend,
                "centred_cosine_median": 0.3 * bend,
                "centred_cosine_random_pairs_median": 0.0,
                "modality_gap": 1.1 - 0.4 * bend,
                "modality_gap_swapped": 0.1,
                "relative_centroid_distance": 1.5 - bend,
                "relative_centroid_distance_swapped": 0.2,
                "imbalance_x_to_y": 0.7 - 0.3 * bend,
                "imbalance_y_to_x": 0.8 - 0.2 * bend,
                "dimension_correlation": 0.1 + 0.5 * bend,
                "dimension_correlation_p": 0.01 if bend > 0.5 else 0.4,
            }
            for metric, value in values.items():
                half = NAN if metric.endswith("_p") else 0.03
                k = 1 if metric.startswith("imbalance") else 0
                rows.append(
                    {**key, "layer": layer, "metric": metric, "k": k, "n": 100, **ends(value, half)}
                )
    return pd.DataFrame(rows, columns=ALIGNMENT_COLUMNS)


def spectrum(subjects: Sequence[str], layers: int) -> pd.DataFrame:
    rows = []
    for index, key, undefined in clouds(subjects, layers):
        bend = hump(key["layer"], layers)
        values = {
            "spectrum_entropy": 0.9 - 0.3 * bend,
            "effective_rank": 60 - 25 * bend - index,
            "participation_ratio": 12 - 8 * bend,
            "anisotropy": 0.3 + 0.6 * bend,
            "massive_items": 1.0 if bend > 0.3 else 0.0,
            "massive_norm_share": 0.95 if bend > 0.3 else 0.0,
            "massive_dimensions": 2.0 if bend > 0.3 else 0.0,
        }
        for metric, defined in values.items():
            value = NAN if undefined and not metric.startswith("massive") else defined
            rows.append({**key, "metric": metric, "n": 100, **ends(value, 0.02 * abs(value))})
    return pd.DataFrame(rows, columns=SPECTRUM_COLUMNS)


def massive(subjects: Sequence[str], layers: int) -> pd.DataFrame:
    rows = []
    for _, key, _ in clouds(subjects, layers):
        bend = hump(key["layer"], layers)
        for place, dimension in enumerate((412, 77, 301, 5, 90)):
            large = place < 2 and bend > 0.3
            size = 1500.0 / (1 + place) if large else 8.0 - place
            rows.append(
                {
                    **key,
                    "dimension": dimension,
                    "massive": large,
                    "items": 100 if large else 0,
                    "item_share": 1.0 if large else 0.0,
                    "largest": -size if place % 2 else size,
                    "median": 0.9 * size,
                    "ratio": size / 0.4,
                    "norm_share": 0.6 / (1 + place) if large else 0.01,
                }
            )
    return pd.DataFrame(rows, columns=MASSIVE_TABLE_COLUMNS)


def linear_probes(subjects: Sequence[str], layers: int) -> pd.DataFrame:
    rows = []
    for index, subject in enumerate(subjects):
        for pair, _, _, stream_image, stream_text in PAIRS:
            for layer in range(layers + 1):
                for train in ("image", "text"):
                    for test in ("image", "text"):
                        within = train == test
                        for scaling in ("own",) if within else ("own", "train"):
                            bend = hump(layer, layers)
                            accuracy = (0.5 if within else 0.2) + 0.4 * bend - 0.03 * index
                            values = {
                                "accuracy": accuracy,
                                "control": 0.2,
                                "selectivity": accuracy - 0.2,
                                "majority": 0.16,
                            }
                            for metric, value in values.items():
                                rows.append(
                                    {
                                        "pair": pair,
                                        "subject": subject,
                                        "stream_image": stream_image,
                                        "stream_text": stream_text,
                                        "layer": layer,
                                        "train": train,
                                        "test": test,
                                        "scaling": scaling,
                                        "metric": metric,
                                        "n": 100,
                                        "classes": 9,
                                        "strength": 0.01,
                                        **ends(value, 0.04),
                                    }
                                )
    return pd.DataFrame(rows, columns=LINEAR_PROBES.names)


def token_clouds(subjects: Sequence[str], layers: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Means over prompts, and correlations with the loss."""
    means, losses = [], []
    for index, subject in enumerate(subjects):
        for probe in PROBES:
            for shuffle in range(4):
                for layer in range(layers + 1):
                    key = {
                        "subject": subject,
                        "probe": probe,
                        "layer": layer,
                        "shuffle": shuffle,
                        "first_token": False,
                    }
                    bend, n = hump(layer, layers), 50 if shuffle else 100
                    numbers = {("cosine_mean", 0): 0.3}
                    for n2 in (2, 4, 8, 16, 32):
                        value = 5 + 4 * bend * (1 - 0.15 * shuffle) + 0.2 * index - 0.01 * n2
                        numbers["gride", n2] = NAN if n2 == 32 else value
                    if layer:
                        numbers["overlap", 2] = 0.8 - 0.3 * bend - 0.05 * shuffle
                    for (metric, k), value in numbers.items():
                        means.append(
                            {**key, "metric": metric, "k": k, "n": n, "tokens": 41.5}
                            | ends(value, 0.02 * value)
                        )
                    for correlation in ("pearson_log", "spearman"):
                        for n2 in (8, 16):
                            value = 0.2 + 0.5 * bend - 0.1 * shuffle + 0.03 * index
                            losses.append(
                                {**key, "metric": "gride", "k": n2, "correlation": correlation}
                                | {"n": n, **ends(value, 0.15), "p": 0.01}
                            )
    return (
        pd.DataFrame(means, columns=TOKEN_CLOUD_MEANS.names),
        pd.DataFrame(losses, columns=TOKEN_CLOUD_LOSS.names),
    )


def matrix_change(tuned: Sequence[str], layers: int) -> pd.DataFrame:
    rows = []
    for index, subject in enumerate(tuned):
        for block in range(layers):
            whole = 0.0
            for place, matrix in enumerate((*MATRICES, "input_layernorm.weight")):
                vector = "norm" in matrix
                change = 0.01 * (1 + place) * (0.2 + hump(block, layers)) / (1 + 3 * index)
                # One matrix that a variant may not change.
                change = 0.0 if place == 1 and index == 1 else change
                whole += (10 * change) ** 2
                rows.append(
                    {
                        "subject": subject,
                        "block": block,
                        "matrix": matrix,
                        "parameters": 10 if vector else 100,
                        "difference_norm": 10 * change,
                        "reference_norm": 10.0,
                        "relative_change": change,
                        "effective_rank": NAN if vector else (30.0 / (1 + index)) * (change > 0),
                        "largest_rank": 0 if vector else 64,
                    }
                )
            rows.append(
                {
                    "subject": subject,
                    "block": block,
                    "matrix": "all",
                    "parameters": 310,
                    "difference_norm": np.sqrt(whole),
                    "reference_norm": 20.0,
                    "relative_change": np.sqrt(whole) / 20,
                    "effective_rank": 80.0,
                    "largest_rank": 192,
                }
            )
    return pd.DataFrame(rows, columns=MATRIX_CHANGE.names)


def concentrated(change: pd.DataFrame, matrices: pd.DataFrame) -> pd.DataFrame:
    """Where those changes lie, as the study computes it."""
    if change.empty:
        return pd.DataFrame(columns=CONCENTRATION.names)
    return concentration_table(change, matrices, level=0.95)
