"""Geometry of stored activations, from files to tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow as pa

from layersight.activations.store import ActivationStore
from layersight.data.schemas import PROBE
from layersight.errors import DataError
from layersight.geometry.measure import (
    GeometrySettings,
    VectorsError,
    change_table,
    cross_modal_table,
    intrinsic_dimension_table,
)
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.storage.tables import read_columns, write_table
from layersight.study import Study

INTRINSIC_DIMENSION = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("stream", pa.string()),
        ("layer", pa.int32()),
        ("estimator", pa.string()),
        ("n1", pa.int32()),
        ("n2", pa.int32()),
        ("scale", pa.float64()),
        ("n", pa.int32()),
        ("duplicates", pa.int32()),
        ("dimension", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
CHANGE = pa.schema(
    [
        ("subject", pa.string()),
        ("reference", pa.string()),
        ("probe", pa.string()),
        ("stream", pa.string()),
        ("layer", pa.int32()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("n", pa.int32()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
CROSS_MODAL = pa.schema(
    [
        ("pair", pa.string()),
        ("subject", pa.string()),
        ("stream_image", pa.string()),
        ("stream_text", pa.string()),
        ("layer", pa.int32()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("n", pa.int32()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)

_KINDS = pa.schema([PROBE.field("item_id"), PROBE.field("kind")])

PAIRS = (
    ("concepts", "pair_images", "pair_texts", "image_mean", "text_mean"),
    ("concepts", "pair_images", "pair_texts", "last", "last"),
    ("questions", "visual_questions", "text_questions", "last", "last"),
)
"""Name, probe set with images, probe set with text, and the stream read off each."""


def dimension_settings(study: Study) -> GeometrySettings:
    """Return the settings of intrinsic dimension: the only ones that its step is given."""
    return GeometrySettings(
        two_nn_fraction=study.geometry.two_nn_fraction,
        gride_range_max=study.geometry.gride_range_max,
        metric=study.geometry.metric,
        level=study.statistics.level,
    )


def overlap_settings(study: Study) -> GeometrySettings:
    """Return the settings of what compares two sets of vectors."""
    return GeometrySettings(
        k=study.geometry.k,
        metric=study.geometry.metric,
        resamples=study.geometry.resamples,
        level=study.statistics.level,
    )


def measure_intrinsic_dimension(
    study: Study, *, subject: str, activations: Path, probes: Sequence[str], out: Path
) -> None:
    """Write the intrinsic dimension of every probe set, stream and layer of one subject.

    Raises:
        DataError: activations that are missing, not finite or not one vector an item.
    """
    frames = []
    for probe in Progress.over(probes, f"intrinsic dimension of {subject}: probe set"):
        store = ActivationStore(activations / probe)
        with _naming(store.folder):
            frame = intrinsic_dimension_table(
                store.read,
                subject=subject,
                probe=probe,
                streams=_streams(study, store),
                layers=store.layers,
                settings=dimension_settings(study),
            )
        _say_undefined(frame, ["stream", "estimator"], "dimension", f"{subject} on {probe}")
        frames.append(frame)
    write_table(out, pd.concat(frames, ignore_index=True), INTRINSIC_DIMENSION)


def measure_change(
    study: Study,
    *,
    subject: str,
    reference: str,
    activations: Path,
    reference_activations: Path,
    probes: Sequence[str],
    out: Path,
) -> None:
    """Write how the representations of a subject differ from a reference's, layer by layer.

    Raises:
        DataError: as `measure_intrinsic_dimension`, or the two hold different items.
    """
    frames = []
    for probe in Progress.over(probes, f"change of {subject} from {reference}: probe set"):
        store = ActivationStore(activations / probe)
        before = ActivationStore(reference_activations / probe)
        with _naming(before.folder, store.folder):
            frame = change_table(
                before.read,
                store.read,
                subject=subject,
                reference=reference,
                probe=probe,
                streams=_streams(study, store),
                layers=store.layers,
                settings=overlap_settings(study),
                seed=derive_seed(study.seed, f"geometry/{subject}/change/{probe}"),
            )
        _say_undefined(frame, ["stream", "metric"], "value", f"{subject} on {probe}")
        frames.append(frame)
    write_table(out, pd.concat(frames, ignore_index=True), CHANGE)


def measure_cross_modal(
    study: Study,
    *,
    subject: str,
    activations: Path,
    probes: Sequence[str],
    probe: Path,
    out: Path,
) -> None:
    """Write how the representations of images and of their words agree, layer by layer.

    Args:
        study: the study.
        subject: the subject's name.
        activations: folder of the subject's activations.
        probes: probe sets that it holds; pairs of others are left out.
        probe: table of a probe set, for the kind of every concept.
        out: table with the schema `CROSS_MODAL`.

    Raises:
        DataError: the two probe sets of a pair hold different items, or an item has no kind.
    """
    table = read_columns(probe, _KINDS)
    groups = dict(
        zip(table.column("item_id").to_pylist(), table.column("kind").to_pylist(), strict=True)
    )
    frames = []
    for pair in Progress.over(PAIRS, f"images against words in {subject}: pair of streams"):
        name, image_probe, text_probe, image_stream, text_stream = pair
        if not {image_stream, text_stream} <= set(study.activations.streams):
            continue
        if not {image_probe, text_probe} <= set(probes):
            continue
        images = ActivationStore(activations / image_probe)
        words = ActivationStore(activations / text_probe)
        seed = f"geometry/{subject}/cross_modal/{name}/{image_stream}"
        with _naming(images.folder, words.folder):
            frame = cross_modal_table(
                images.read,
                words.read,
                subject=subject,
                stream_image=image_stream,
                stream_text=text_stream,
                groups=groups,
                layers=images.layers,
                settings=overlap_settings(study),
                seed=derive_seed(study.seed, seed),
            )
        _say_undefined(frame, ["metric"], "value", f"{subject}, {name}, {image_stream}")
        frames.append(frame.assign(pair=name))
    if frames:
        write_table(out, pd.concat(frames, ignore_index=True), CROSS_MODAL)
    else:
        write_table(out, [], CROSS_MODAL)


@contextmanager
def _naming(*folders: Path) -> Iterator[None]:
    """Say in which activations the vectors are that cannot be measured."""
    try:
        yield
    except VectorsError as error:
        raise DataError(f"{' and '.join(str(folder) for folder in folders)}: {error}") from None


def _say_undefined(frame: pd.DataFrame, keys: list[str], value: str, where: str) -> None:
    """Print which rows of a table are NaN, and from how many items, one line a stream or metric."""
    for key, group in frame[frame[value].isna()].groupby(keys, sort=False):
        layers = ", ".join(str(layer) for layer in sorted(set(group["layer"])))
        items = f"{group['n'].min()} to {group['n'].max()} usable items"
        print(
            f"undefined (NaN): {where}: {' '.join(str(part) for part in key)}: layers {layers}, "
            f"{items}",
            file=sys.stderr,
            flush=True,
        )


def _streams(study: Study, store: ActivationStore) -> list[str]:
    stored = set(store.streams())
    return [stream for stream in study.activations.streams if stream in stored]
