"""Density peaks of one subject, from stored neighbour graphs to tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from layersight.data.schemas import BENCHMARK, PROBE
from layersight.errors import DataError
from layersight.geometry.graph_store import GraphStore
from layersight.geometry.stage_tools import naming, present, say_undefined
from layersight.geometry.tables_density import density_tables
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.storage.tables import read_columns, write_table

_KEYS = [
    ("subject", pa.string()),
    ("probe", pa.string()),
    ("stream", pa.string()),
    ("layer", pa.int32()),
]

# `labels` names the labelling that a measure of agreement is about, and is empty for the others.
# `n` counts distinct vectors, `k` the neighbours behind the density.
DENSITY_PEAKS = pa.schema(
    [
        *_KEYS,
        ("metric", pa.string()),
        ("labels", pa.string()),
        ("k", pa.int32()),
        ("n", pa.int32()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)

# One row a merge of the dendrogram, lowest first, see `clusters.merge_table`.
DENSITY_MERGES = pa.schema(
    [
        *_KEYS,
        ("merge", pa.int32()),
        ("left", pa.int32()),
        ("right", pa.int32()),
        ("height", pa.float64()),
        ("peaks", pa.int32()),
    ]
)

# One row a peak and labelling: the item at the peak, and the label that its cluster mostly holds.
DENSITY_PEAK_LIST = pa.schema(
    [
        *_KEYS,
        ("labels", pa.string()),
        ("peak", pa.int32()),
        ("item_id", pa.string()),
        ("log_density", pa.float64()),
        ("items", pa.int32()),
        ("core_items", pa.int32()),
        ("label", pa.string()),
        ("label_share", pa.float64()),
    ]
)

LABELS = (PROBE.field("kind"), PROBE.field("subgroup"), BENCHMARK.field("answer"))
"""Columns that label the items of a table, where it has them."""
MODALITIES = ("image", "text")


@dataclass(frozen=True)
class DensitySettings:
    """How density peaks are found.

    Attributes:
        k: neighbours behind the density, at least 2; graphs need 4 `k`, or all.
        z: significance of the peaks, in standard errors.
        resamples: subsets of items behind every interval.
        fraction: share of the items in each subset.
        level: coverage of the intervals.
    """

    k: int = 16
    z: float = 1.65
    resamples: int = 50
    fraction: float = 0.8
    level: float = 0.95

    def __post_init__(self) -> None:
        for name, least in {"k": 2, "z": 0, "resamples": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("fraction", "level"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in (0, 1).")


def labels_of_probe(table: Path) -> dict[str, dict[str, str]]:
    """Read what labels the items of a probe set or a benchmark: those of `LABELS` that it has.

    Args:
        table: Parquet with the column `item_id`.

    Returns:
        Name of the column to item id to label.

    Raises:
        DataError: the table is missing, unreadable or without item ids.
    """
    try:
        names = set(pq.read_schema(table).names)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{table}: not a Parquet table that can be read ({error})") from None
    fields = [field for field in LABELS if field.name in names]
    columns = read_columns(table, pa.schema([PROBE.field("item_id"), *fields]))
    ids = columns.column("item_id").to_pylist()
    return {
        field.name: dict(zip(ids, columns.column(field.name).to_pylist(), strict=True))
        for field in fields
    }


def modality_labels(ids: Iterable[str]) -> dict[str, str]:
    """Read the modality off the ids of a pooled cloud, "image:<id>" or "text:<id>".

    Raises:
        DataError: an id has no such prefix.
    """
    found = {}
    for item in ids:
        modality, colon, _ = item.partition(":")
        if not colon or modality not in MODALITIES:
            raise DataError(
                f"item {item!r}: a pooled cloud names its items image:<id> or text:<id>"
            )
        found[item] = modality
    return found


def pooled_labels(
    labels: Mapping[str, Mapping[str, str]], ids: Iterable[str]
) -> dict[str, dict[str, str]]:
    """Label the items of a pooled cloud: by modality, and as the item without its prefix.

    Args:
        labels: name of a labelling to item id to label, as `labels_of_probe` gives it.
        ids: of the pooled cloud, "image:<id>" or "text:<id>".

    Raises:
        DataError: an id has no prefix, or an item no label.
    """
    modality = modality_labels(ids)
    found = {"modality": modality}
    for name, of in labels.items():
        items = {item: item.partition(":")[2] for item in modality}
        missing = sorted(set(items.values()) - of.keys())
        if missing:
            raise DataError(f"{len(missing)} items have no {name} (for example {missing[0]!r})")
        found[name] = {pooled: of[item] for pooled, item in items.items()}
    return found


def labels_of_pool(folder: Path, table: Path) -> dict[str, dict[str, str]]:
    """Label the items of the pooled clouds in a folder of graphs.

    Args:
        folder: graphs of one pair, see `graph_stages.find_pair_neighbours`.
        table: a probe set of that pair, whose columns label the items besides.

    Raises:
        DataError: there are no graphs, or an item has no label.
    """
    store = GraphStore(folder)
    first = store.read(store.layers[0], store.streams()[0])
    with naming(store.folder):
        return pooled_labels(labels_of_probe(table), first.item_ids.tolist())


def measure_density(
    *,
    subject: str,
    graphs: Mapping[str, Path],
    labels: Mapping[str, Mapping[str, Mapping[str, str]]],
    streams: Sequence[str],
    settings: DensitySettings,
    seed: int,
    out: Path,
    merges_out: Path,
    peaks_out: Path,
) -> None:
    """Write the density peaks of all probe sets of one subject, and what they agree with.

    Args:
        subject: its name.
        graphs: probe set to its folder of neighbour graphs.
        labels: probe set to name of a labelling to item id to label; a probe set that is not there
            has no labels.
        streams: those wanted; what a probe set does not have is left out.
        settings: how peaks are found.
        seed: of the resampling.
        out: table with the schema `DENSITY_PEAKS`.
        merges_out: table with the schema `DENSITY_MERGES`.
        peaks_out: table with the schema `DENSITY_PEAK_LIST`; a row for each labelling, and none
            for a probe set without labels.

    Raises:
        DataError: graphs that are missing, unreadable or too narrow, or an item without a label.
    """
    found = []
    for probe, folder in Progress.over(list(graphs.items()), f"density of {subject}: probe set"):
        store = GraphStore(folder)
        with naming(store.folder):
            tables = density_tables(
                store.read,
                subject=subject,
                probe=probe,
                streams=present(streams, store.streams()),
                layers=store.layers,
                labels=labels.get(probe, {}),
                # Without the subject: the same subsets for all, so that they compare.
                seed=derive_seed(seed, f"geometry/density/{probe}"),
                k=settings.k,
                z=settings.z,
                resamples=settings.resamples,
                fraction=settings.fraction,
                level=settings.level,
            )
        say_undefined(tables.measures, ["stream"], f"density peaks of {subject} on {probe}")
        found.append(tables)
    for path, name, schema in (
        (out, "measures", DENSITY_PEAKS),
        (merges_out, "merges", DENSITY_MERGES),
        (peaks_out, "peaks", DENSITY_PEAK_LIST),
    ):
        frames: list[Any] = [getattr(tables, name) for tables in found]
        frames = [frame for frame in frames if len(frame)]
        write_table(path, pd.concat(frames, ignore_index=True) if frames else [], schema)
