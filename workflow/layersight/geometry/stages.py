"""Geometry of stored activations, from files to tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from layersight.activations.store import ActivationStore
from layersight.data.schemas import PROBE
from layersight.errors import DataError
from layersight.geometry.graph_store import GraphStore
from layersight.geometry.measure import GeometrySettings, change_table, cross_modal_table
from layersight.geometry.pairs import pairs_of
from layersight.geometry.stage_tools import naming, present, say_undefined
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.storage.tables import read_columns, write_table
from layersight.study import Study

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


def overlap_settings(study: Study) -> GeometrySettings:
    """Return the settings of what compares two sets of vectors."""
    return GeometrySettings(
        k=study.geometry.k,
        metric=study.geometry.metric,
        resamples=study.geometry.resamples,
        level=study.statistics.level,
    )


def measure_change(
    study: Study,
    *,
    subject: str,
    reference: str,
    activations: Path,
    reference_activations: Path,
    graphs: Path,
    reference_graphs: Path,
    probes: Sequence[str],
    out: Path,
) -> None:
    """Write how the representations of a subject differ from a reference's, layer by layer.

    Args:
        study: the study.
        subject, reference: names.
        activations, reference_activations: folders of the activations of both.
        graphs, reference_graphs: folders of their neighbour graphs, a folder a probe set.
        probes: probe sets.
        out: table with the schema `CHANGE`.

    Raises:
        DataError: activations or graphs that are missing or unreadable, vectors that are not
            finite, or the two hold different items.
    """
    frames = []
    for probe in Progress.over(probes, f"change of {subject} from {reference}: probe set"):
        store = ActivationStore(activations / probe)
        before = ActivationStore(reference_activations / probe)
        near = GraphStore(graphs / probe, study.geometry.metric)
        near_before = GraphStore(reference_graphs / probe, study.geometry.metric)
        with naming(before.folder, store.folder):
            frame = change_table(
                before.read,
                store.read,
                reference_graph=near_before.read,
                subject_graph=near.read,
                subject=subject,
                reference=reference,
                probe=probe,
                streams=_streams(study, store, near),
                layers=store.layers,
                settings=overlap_settings(study),
                seed=derive_seed(study.seed, f"geometry/{subject}/change/{probe}"),
            )
        say_undefined(frame, ["stream", "metric"], f"{subject} on {probe}")
        _say_why(frame, study.geometry.k, f"{subject} on {probe}")
        frames.append(frame)
    write_table(out, pd.concat(frames, ignore_index=True), CHANGE)


def measure_cross_modal(
    study: Study,
    *,
    subject: str,
    activations: Path,
    graphs: Path,
    probes: Sequence[str],
    probe: Path,
    out: Path,
) -> None:
    """Write how the representations of images and of their words agree, layer by layer.

    Args:
        study: the study.
        subject: the subject's name.
        activations: folder of the subject's activations.
        graphs: folder of its neighbour graphs, a folder a probe set.
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
    wanted = pairs_of(probes, study.activations.stored)
    for pair in Progress.over(wanted, f"images against words in {subject}: pair of streams"):
        name, image_probe, text_probe, image_stream, text_stream = pair
        images = ActivationStore(activations / image_probe)
        words = ActivationStore(activations / text_probe)
        seed = f"geometry/{subject}/cross_modal/{name}/{image_stream}"
        near_images = GraphStore(graphs / image_probe, study.geometry.metric)
        near_words = GraphStore(graphs / text_probe, study.geometry.metric)
        with naming(images.folder, words.folder):
            frame = cross_modal_table(
                images.read,
                words.read,
                image_graph=near_images.read,
                text_graph=near_words.read,
                subject=subject,
                stream_image=image_stream,
                stream_text=text_stream,
                groups=groups,
                layers=images.layers,
                settings=overlap_settings(study),
                seed=derive_seed(study.seed, seed),
            )
        say_undefined(frame, ["metric"], f"{subject}, {name}, {image_stream}")
        _say_why(frame, study.geometry.k, f"{subject}, {name}, {image_stream}")
        frames.append(frame.assign(pair=name))
    if frames:
        write_table(out, pd.concat(frames, ignore_index=True), CROSS_MODAL)
    else:
        write_table(out, [], CROSS_MODAL)


def _say_why(frame: pd.DataFrame, k: int, where: str) -> None:
    """Print where an overlap is NaN because the graphs are too narrow, not the items too few."""
    enough = (frame["n"] >= max(3 * k, 3)) | (
        frame["metric"].str.startswith("overlap_within_group") & (frame["n"] >= k + 2)
    )
    narrow = frame[frame["value"].isna() & (frame["k"] > 0) & enough]
    for metric, group in narrow.groupby("metric", sort=False):
        layers = ", ".join(str(layer) for layer in sorted(set(group["layer"])))
        print(
            f"undefined (NaN): {where}: {metric}: layers {layers}: of an item's stored neighbours "
            f"fewer than k = {k} are among the items compared; raise geometry.neighbours",
            file=sys.stderr,
            flush=True,
        )


def _streams(study: Study, store: ActivationStore, graphs: GraphStore) -> list[str]:
    """Streams that the study wants and that are stored; those must have graphs."""
    wanted = present(study.activations.stored, store.streams())
    missing = sorted(set(wanted) - set(graphs.streams()))
    if missing:
        raise DataError(
            f"{graphs.folder}: no neighbour graph of the stream {missing[0]}; rerun the rule "
            "find_neighbours"
        )
    return wanted
