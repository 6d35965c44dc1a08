"""Tables of linear probes over layers: from arrays, and from stored activations to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from layersight.activations.store import ActivationStore
from layersight.errors import DataError
from layersight.geometry.linear_probes import (
    STRENGTHS,
    control_labels,
    frequent,
    held_out_predictions,
    majority_predictions,
    stratified_folds,
)
from layersight.geometry.measure import (
    UNDEFINED,
    Read,
    VectorsError,
    checked,
    labels_of,
    matched,
)
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.statistics import Interval, bootstrap_mean
from layersight.storage.tables import read_columns, write_table

# `train` and `test` are "image" or "text". `scaling` says whose mean and deviation the test
# modality is standardised with, its `own` or those of `train`. `metric` is accuracy, control (the
# accuracy for control labels, at the C that the true ones chose), selectivity (accuracy - control)
# or majority. `n` counts items, `classes` their classes; `strength` is the median over folds of the
# chosen C.
LINEAR_PROBES = pa.schema(
    [
        ("pair", pa.string()),
        ("subject", pa.string()),
        ("stream_image", pa.string()),
        ("stream_text", pa.string()),
        ("layer", pa.int32()),
        ("train", pa.string()),
        ("test", pa.string()),
        ("scaling", pa.string()),
        ("metric", pa.string()),
        ("n", pa.int32()),
        ("classes", pa.int32()),
        ("strength", pa.float64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)


@dataclass(frozen=True)
class LinearProbeSettings:
    """How probes are fitted and tested.

    Attributes:
        strengths: inverse penalties C to choose from, all above 0.
        folds: folds of items, at least 2; classes with fewer items are left out.
        inner_folds: folds of the cross-validation that chooses C, at least 2.
        controls: draws of control labels, at least 1.
        resamples: bootstrap draws behind each interval.
        level: coverage of the intervals.
    """

    strengths: tuple[float, ...] = STRENGTHS
    folds: int = 5
    inner_folds: int = 3
    controls: int = 1
    resamples: int = 500
    level: float = 0.95

    def __post_init__(self) -> None:
        if not self.strengths or min(self.strengths) <= 0:
            raise ValueError(f"strengths is {self.strengths}; at least one C above 0 is needed.")
        for name, least in {"folds": 2, "inner_folds": 2, "controls": 1, "resamples": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 < self.level < 1:
            raise ValueError(f"level is {self.level}; it must lie in (0, 1).")


def linear_probe_table(
    read_image: Read,
    read_text: Read,
    *,
    subject: str,
    stream_image: str,
    stream_text: str,
    labels: Mapping[str, Any],
    types: Mapping[str, Any],
    layers: Sequence[int],
    settings: LinearProbeSettings,
    seed: int,
) -> pd.DataFrame:
    """How well a label can be read off each layer, within a modality and from one to the other.

    Rows of the two streams pair up by item id, and a fold holds an item out in both: no probe is
    tested on an item that it saw as the other modality. Folds and control labels are drawn once and
    serve all layers, so that layers compare.

    Args:
        read_image, read_text: callables that read the vectors.
        subject: name of the subject.
        stream_image, stream_text: what is read off each input.
        labels: item id to what is predicted, such as the kind.
        types: item id to what control labels are drawn for, such as the subgroup.
        layers: the layers.
        settings: see there.
        seed: of the folds, the control labels and the intervals.

    Returns:
        One row per layer, training modality, test modality, scaling (for the other modality alone)
        and metric, with the columns of `LINEAR_PROBES` but `pair`. Intervals: percentile bootstrap
        over items, for the selectivity over the items' differences; they hold the sampling of the
        items tested, not that of those trained on. NaN where fewer than two classes have
        `settings.folds` items.

    Raises:
        VectorsError: when the two hold different items, an item twice, an item without a label or
            type, vectors of different widths, or invalid ones.
    """
    rows = []
    for layer in layers:
        where = f"streams {stream_image!r} and {stream_text!r}, layer {layer}"
        ids, image = checked(read_image, layer, stream_image)
        text = matched(ids, *checked(read_text, layer, stream_text), where)
        if image.shape != text.shape:
            raise VectorsError(
                f"{where}: vectors have {image.shape[1]} and {text.shape[1]} dimensions; a probe "
                "for both needs the same."
            )
        # Sorted, so that folds and draws depend on the items and not on their order in the files.
        by = np.argsort(ids)
        classes, kinds = labels_of(ids[by], labels, where), labels_of(ids[by], types, where)
        key = {
            "subject": subject,
            "stream_image": stream_image,
            "stream_text": stream_text,
            "layer": int(layer),
        }
        found = _layer_rows(image[by], text[by], classes, kinds, settings, seed)
        rows += [{**key, **row} for row in found]
    return pd.DataFrame(rows, columns=[name for name in LINEAR_PROBES.names if name != "pair"])


def measure_linear_probes(
    *,
    subject: str,
    activations: Path,
    pairs: Sequence[tuple[str, str, str, str, str]],
    probe: Path,
    out: Path,
    label: str = "kind",
    control: str = "subgroup",
    settings: LinearProbeSettings,
    seed: int,
) -> None:
    """Write the linear probes of one subject, all pairs of probe sets and all layers.

    Args:
        subject: the subject's name.
        activations: folder of the subject's activations.
        pairs: name, probe set with images, probe set with text, and the stream read off each.
        probe: table of a probe set, for the labels of every item.
        out: table with the schema `LINEAR_PROBES`.
        label: column of `probe` that probes predict.
        control: column of `probe` whose values get control labels.
        settings: how probes are fitted.
        seed: of all draws.

    Raises:
        DataError: activations or columns that are missing, items that do not pair up or have no
            label, or vectors that are not finite.
    """
    schema = pa.schema([(name, pa.string()) for name in dict.fromkeys(["item_id", label, control])])
    table = read_columns(probe, schema).to_pandas().set_index("item_id")
    frames = []
    for pair in Progress.over(pairs, f"linear probes of {subject}: pair of streams"):
        name, image_probe, text_probe, image_stream, text_stream = pair
        images = ActivationStore(activations / image_probe)
        words = ActivationStore(activations / text_probe)
        try:
            frame = linear_probe_table(
                images.read,
                words.read,
                subject=subject,
                stream_image=image_stream,
                stream_text=text_stream,
                labels=table[label].to_dict(),
                types=table[control].to_dict(),
                layers=images.layers,
                settings=settings,
                # Without the subject: the same folds and control labels for all.
                seed=derive_seed(seed, f"geometry/linear_probes/{name}/{image_stream}"),
            )
        except VectorsError as error:
            raise DataError(f"{images.folder} and {words.folder}: {error}") from None
        frames.append(frame.assign(pair=name))
    write_table(out, pd.concat(frames, ignore_index=True) if frames else [], LINEAR_PROBES)


def _layer_rows(
    image: npt.NDArray[np.float32],
    text: npt.NDArray[np.float32],
    labels: npt.NDArray[Any],
    types: npt.NDArray[Any],
    settings: LinearProbeSettings,
    seed: int,
) -> list[dict[str, Any]]:
    kept = frequent(labels, settings.folds)
    sides = {"image": image[kept], "text": text[kept]}
    found, codes = np.unique(labels[kept], return_inverse=True)
    size = {"n": int(np.count_nonzero(kept)), "classes": len(found)}
    if len(found) < 2:
        return [
            {**case, **size, "metric": metric, "strength": np.nan, **_ends(UNDEFINED)}
            for case in _cases()
            for metric in ("accuracy", "control", "selectivity", "majority")
        ]
    rng = np.random.default_rng(derive_seed(seed, "draws"))
    folds = stratified_folds(codes, settings.folds, rng)
    controls = [control_labels(codes, types[kept], rng) for _ in range(settings.controls)]
    guessed = (majority_predictions(codes, folds) == codes).astype(np.float64)
    rows = []
    for train, vectors in sides.items():
        fitting: dict[str, Any] = {
            "strengths": settings.strengths,
            "inner_folds": settings.inner_folds,
        }
        true = held_out_predictions(vectors, sides, codes, folds, **fitting)
        learned_controls = [
            held_out_predictions(vectors, sides, target, folds, **fitting, chosen=true.strengths)
            for target in controls
        ]
        strength = float(np.nanmedian(true.strengths))
        for case in _cases(train):
            which = case["test"], case["scaling"]
            right = (true.predictions[which] == codes).astype(np.float64)
            learned = np.mean(
                [
                    task.predictions[which] == target
                    for task, target in zip(learned_controls, controls, strict=True)
                ],
                axis=0,
            )
            values = {
                "accuracy": right,
                "control": learned,
                "selectivity": right - learned,
                "majority": guessed,
            }
            for metric, items in values.items():
                # The same draws everywhere, so that what is compared shares its items.
                interval = bootstrap_mean(
                    items,
                    resamples=settings.resamples,
                    level=settings.level,
                    rng=np.random.default_rng(derive_seed(seed, "intervals")),
                )
                rows.append(
                    {**case, **size, "metric": metric, "strength": strength, **_ends(interval)}
                )
    return rows


def _cases(train: str | None = None) -> list[dict[str, str]]:
    return [
        {"train": one, "test": other, "scaling": scaling}
        for one in ("image", "text")
        if train in (None, one)
        for other in ("image", "text")
        for scaling in (("own",) if one == other else ("own", "train"))
    ]


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}
