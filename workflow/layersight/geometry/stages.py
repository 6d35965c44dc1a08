"""Geometry of stored activations, from files to tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from layersight.activations.store import ActivationStore
from layersight.geometry.measure import (
    GeometrySettings,
    change_table,
    cross_modal_table,
    intrinsic_dimension_table,
)
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.storage.tables import read_table, write_table
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

PAIRS = (
    ("concepts", "pair_images", "pair_texts", "image_mean", "text_mean"),
    ("concepts", "pair_images", "pair_texts", "last", "last"),
    ("questions", "visual_questions", "text_questions", "last", "last"),
)
"""Name, probe set with images, probe set with text, and the stream read off each."""


def settings_of(study: Study) -> GeometrySettings:
    """Return the settings of the geometry tables."""
    return GeometrySettings(
        k=study.geometry.k,
        two_nn_fraction=study.geometry.two_nn_fraction,
        gride_range_max=study.geometry.gride_range_max,
        metric=study.geometry.metric,
        resamples=study.geometry.resamples,
        level=study.statistics.level,
    )


def measure_intrinsic_dimension(
    study: Study, *, subject: str, activations: Path, probes: Sequence[str], out: Path
) -> None:
    """Write the intrinsic dimension of every probe set, stream and layer of one subject."""
    frames = []
    for probe in Progress.over(probes, f"intrinsic dimension of {subject}: probe set"):
        store = ActivationStore(activations / probe)
        frames.append(
            intrinsic_dimension_table(
                store.read,
                subject=subject,
                probe=probe,
                streams=_streams(study, store),
                layers=store.layers,
                settings=settings_of(study),
            )
        )
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
    """Write how the representations of a subject differ from a reference's, layer by layer."""
    frames = []
    for probe in Progress.over(probes, f"change of {subject} from {reference}: probe set"):
        store = ActivationStore(activations / probe)
        before = ActivationStore(reference_activations / probe)
        frames.append(
            change_table(
                before.read,
                store.read,
                subject=subject,
                reference=reference,
                probe=probe,
                streams=_streams(study, store),
                layers=store.layers,
                settings=settings_of(study),
                seed=derive_seed(study.seed, f"geometry/{subject}/change/{probe}"),
            )
        )
    write_table(out, pd.concat(frames, ignore_index=True), CHANGE)


def measure_cross_modal(
    study: Study, *, subject: str, activations: Path, probe: Path, out: Path
) -> None:
    """Write how the representations of images and of their words agree, layer by layer.

    Args:
        study: the study.
        subject: the subject's name.
        activations: folder of the subject's activations.
        probe: table of a probe set, for the kind of every concept.
        out: table with the schema `CROSS_MODAL`.
    """
    table = read_table(probe)
    groups = dict(
        zip(table.column("item_id").to_pylist(), table.column("kind").to_pylist(), strict=True)
    )
    frames = []
    for pair in Progress.over(PAIRS, f"images against words in {subject}: pair of streams"):
        name, image_probe, text_probe, image_stream, text_stream = pair
        if not {image_stream, text_stream} <= set(study.activations.streams):
            continue
        images = ActivationStore(activations / image_probe)
        words = ActivationStore(activations / text_probe)
        frame = cross_modal_table(
            images.read,
            words.read,
            subject=subject,
            stream_image=image_stream,
            stream_text=text_stream,
            groups=groups,
            layers=images.layers,
            settings=settings_of(study),
            seed=derive_seed(study.seed, f"geometry/{subject}/cross_modal/{name}/{image_stream}"),
        )
        frames.append(frame.assign(pair=name))
    if frames:
        write_table(out, pd.concat(frames, ignore_index=True), CROSS_MODAL)
    else:
        write_table(out, [], CROSS_MODAL)


def _streams(study: Study, store: ActivationStore) -> list[str]:
    stored = set(store.streams())
    return [stream for stream in study.activations.streams if stream in stored]
