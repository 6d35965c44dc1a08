"""Spectrum and alignment of one subject, from stored activations and graphs to tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from layersight.activations.store import ActivationStore
from layersight.errors import DataError
from layersight.geometry.graph_store import GraphStore
from layersight.geometry.stage_tools import naming, present, say_undefined
from layersight.geometry.tables_shape import pair_table, spectrum_tables
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.storage.tables import write_table

SPECTRUM = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("stream", pa.string()),
        ("layer", pa.int32()),
        ("metric", pa.string()),
        ("n", pa.int32()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)

# One row a dimension, see `massive.MassiveActivations.dimensions`.
MASSIVE = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("stream", pa.string()),
        ("layer", pa.int32()),
        ("dimension", pa.int32()),
        ("massive", pa.bool_()),
        ("items", pa.int32()),
        ("item_share", pa.float64()),
        ("largest", pa.float64()),
        ("median", pa.float64()),
        ("ratio", pa.float64()),
        ("norm_share", pa.float64()),
    ]
)

# `comparison` is "image_text" (`reference` is the subject itself, `probe` and `stream` the image
# side, x, the reference ones the text side, y) or "tuned_base" (x the subject, y the reference, on
# one probe set and stream). `k` is 0 where no neighbours are used, `n` counts the items used.
ALIGNMENT = pa.schema(
    [
        ("comparison", pa.string()),
        ("subject", pa.string()),
        ("reference", pa.string()),
        ("probe", pa.string()),
        ("reference_probe", pa.string()),
        ("stream", pa.string()),
        ("reference_stream", pa.string()),
        ("layer", pa.int32()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("n", pa.int32()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)


@dataclass(frozen=True)
class ShapeSettings:
    """How spectra and alignment are measured.

    Attributes:
        resamples: subsets of items, or bootstrap draws, behind every interval.
        fraction: share of the items in each subset.
        level: coverage of the intervals.
        magnitude, ratio: what counts as massive, see `massive.massive_activations`.
        variance: share of the variance that SVCCA keeps.
        k: neighbours of the information imbalance.
        permutations: of the intrinsic-dimension correlation.
        two_nn_fraction: share of the distance ratios that TwoNN fits.
        most_items: items that the intrinsic-dimension correlation uses, at most.
    """

    resamples: int = 50
    fraction: float = 0.8
    level: float = 0.95
    magnitude: float = 100.0
    ratio: float = 1000.0
    variance: float = 0.95
    k: int = 1
    permutations: int = 100
    two_nn_fraction: float = 0.9
    most_items: int = 2500

    def __post_init__(self) -> None:
        least = {"resamples": 1, "k": 1, "permutations": 1, "most_items": 10}
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it must be at least {smallest}."
                )
        for name in ("fraction", "level", "variance"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in (0, 1).")


@dataclass(frozen=True)
class _Side:
    """Vectors and graphs of one subject on one probe set, and what to read of them."""

    subject: str
    probe: str
    stream: str
    vectors: ActivationStore
    graphs: GraphStore


def measure_spectrum(
    *,
    subject: str,
    activations: Path,
    probes: Sequence[str],
    streams: Sequence[str],
    settings: ShapeSettings,
    seed: int,
    out: Path,
    massive_out: Path,
) -> None:
    """Write the spectrum and the massive activations of every probe set, stream and layer.

    Args:
        subject: its name.
        activations: folder of its activations.
        probes: probe sets, folders in it.
        streams: those wanted; what a probe set does not have is left out.
        settings: how they are measured.
        seed: of the resampling.
        out: table with the schema `SPECTRUM`.
        massive_out: table with the schema `MASSIVE`.

    Raises:
        DataError: activations that are missing, not finite or not one vector an item.
    """
    spectra, massive = [], []
    for probe in Progress.over(probes, f"spectrum of {subject}: probe set"):
        store = ActivationStore(activations / probe)
        with naming(store.folder):
            found, reported = spectrum_tables(
                store.read,
                subject=subject,
                probe=probe,
                streams=present(streams, store.streams()),
                layers=store.layers,
                # Without the subject: the same subsets for all, so that they compare.
                seed=derive_seed(seed, f"geometry/spectrum/{probe}"),
                resamples=settings.resamples,
                fraction=settings.fraction,
                level=settings.level,
                magnitude=settings.magnitude,
                ratio=settings.ratio,
            )
        say_undefined(found, ["stream"], f"spectrum of {subject} on {probe}")
        spectra.append(found)
        massive.append(reported)
    _write(out, spectra, SPECTRUM)
    _write(massive_out, massive, MASSIVE)


def measure_alignment(
    *,
    subject: str,
    activations: Path,
    graphs: Mapping[str, Path],
    pairs: Sequence[tuple[str, str, str, str, str]],
    streams: Sequence[str],
    settings: ShapeSettings,
    seed: int,
    out: Path,
    reference: str = "",
    reference_activations: Path | None = None,
    reference_graphs: Mapping[str, Path] | None = None,
) -> None:
    """Write how two modalities align in a subject, and how the subject does with a reference.

    Args:
        subject: its name.
        activations: folder of its activations.
        graphs: probe set to its folder of neighbour graphs, for all probe sets to compare.
        pairs: name, probe set with images, probe set with text, and the stream read off each (as
            `stages.PAIRS`); those whose probe sets or streams are not there are left out.
        streams: those wanted.
        settings: how alignment is measured.
        seed: of the resampling.
        out: table with the schema `ALIGNMENT`.
        reference: name of the model that the subject was tuned from.
        reference_activations: folder of its activations; None compares with no reference.
        reference_graphs: its graphs; probe sets that are not there are not compared.

    Raises:
        DataError: activations or graphs that are missing or not finite, or two sides that hold
            different items.
    """

    def side(name: str, folder: Path, graph: Path, probe: str, stream: str) -> _Side:
        return _Side(name, probe, stream, ActivationStore(folder / probe), GraphStore(graph))

    wanted: list[tuple[str, _Side, _Side]] = []
    for _, image_probe, text_probe, image_stream, text_stream in pairs:
        if not {image_stream, text_stream} <= set(streams):
            continue
        if not {image_probe, text_probe} <= graphs.keys():
            continue
        images = side(subject, activations, graphs[image_probe], image_probe, image_stream)
        words = side(subject, activations, graphs[text_probe], text_probe, text_stream)
        wanted.append(("image_text", images, words))
    if reference_activations is not None:
        if reference_graphs is None:
            raise ValueError("reference_activations are given without reference_graphs.")
        for probe in graphs:
            if probe not in reference_graphs:
                continue
            stored = GraphStore(graphs[probe]).streams()
            for stream in present(streams, stored):
                new = side(subject, activations, graphs[probe], probe, stream)
                old = side(reference, reference_activations, reference_graphs[probe], probe, stream)
                wanted.append(("tuned_base", new, old))
    frames = []
    for comparison, x, y in Progress.over(wanted, f"alignment of {subject}: pair of clouds"):
        frame = _compared(comparison, x, y, settings, seed)
        where = f"alignment of {subject}, {comparison}"
        say_undefined(frame, ["probe", "stream"], where)
        frames.append(frame)
    _write(out, frames, ALIGNMENT)


def _compared(
    comparison: str, x: _Side, y: _Side, settings: ShapeSettings, seed: int
) -> pd.DataFrame:
    if x.vectors.layers != y.vectors.layers:
        raise DataError(
            f"{x.vectors.folder} and {y.vectors.folder}: hold the layers {x.vectors.layers} and "
            f"{y.vectors.layers}; the same are needed"
        )
    key = {
        "comparison": comparison,
        "subject": x.subject,
        "reference": y.subject,
        "probe": x.probe,
        "reference_probe": y.probe,
        "stream": x.stream,
        "reference_stream": y.stream,
    }
    with naming(x.vectors.folder, y.vectors.folder):
        return pair_table(
            x.vectors.read,
            y.vectors.read,
            x.graphs.read,
            y.graphs.read,
            stream_x=x.stream,
            stream_y=y.stream,
            layers=x.vectors.layers,
            # Without the subject: the same draws for all, so that they compare.
            seed=derive_seed(seed, f"geometry/alignment/{comparison}/{x.probe}/{y.probe}"),
            key=key,
            variance=settings.variance,
            k=settings.k,
            permutations=settings.permutations,
            two_nn_fraction=settings.two_nn_fraction,
            most_items=settings.most_items,
            resamples=settings.resamples,
            fraction=settings.fraction,
            level=settings.level,
        )


def _write(path: Path, frames: Sequence[pd.DataFrame], schema: pa.Schema) -> None:
    filled: list[Any] = [frame for frame in frames if len(frame)]
    write_table(path, pd.concat(filled, ignore_index=True) if filled else [], schema)
