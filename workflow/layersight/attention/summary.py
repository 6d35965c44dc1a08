"""From attention ratios of items to LMAR per block and per subject, with intervals.

Intervals are percentile bootstraps over items. All blocks of a subject, and all subjects, are
resampled with the same draws, so that curves and their mean over blocks belong together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from layersight import artefacts
from layersight.attention.items import ITEMS, SUMMARY, TABLE
from layersight.errors import DataError
from layersight.seeds import derive_seed
from layersight.statistics import percentile_ends, resampled_means
from layersight.storage.manifest import read_manifest
from layersight.storage.tables import read_table, write_table

NAN = float("nan")


def attention_table(
    paths: Sequence[Path],
    out: Path,
    summary: Path,
    *,
    manifests: Mapping[str, Path],
    resamples: int = 2000,
    level: float = 0.95,
    seed: int,
) -> None:
    """Write LMAR per subject and block, and its mean over blocks per subject.

    Args:
        paths: tables of items, one a subject, in the order that the tables are to have.
        out: table with the schema `TABLE`.
        summary: table with the schema `SUMMARY`.
        manifests: artefact (such as `models/full/seed-0`) to its `manifest.json`, from which the
            numbers of trained parameters are read.
        resamples: number of resamples.
        level: level of the intervals.
        seed: source of the draws.

    Raises:
        DataError: a table is not one of items, two tables hold one subject, or an item occurs
            twice.
    """
    curves: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    seen: set[str] = set()
    for path in paths:
        frame = read_table(path, ITEMS).to_pandas()
        here = set(frame["subject"])
        if here & seen:
            raise DataError(f"{path}: the subject {min(here & seen)} is in another table already")
        seen |= here
        for (subject, kind, bos), rows in frame.groupby(["subject", "kind", "bos"], sort=True):
            draws = derive_seed(seed, f"attention/{kind}/{bos}")
            common = {"subject": subject, "kind": kind, "bos": bos}
            found = _over_items(path, rows, resamples, level, np.random.default_rng(draws))
            curves += [common | row for row in found[0]]
            model = artefacts.SUBJECT_MODEL.format(subject=subject)
            means.append(common | found[1] | _parameters(manifests.get(model)))
    write_table(out, curves, TABLE)
    write_table(summary, pa.Table.from_pylist(means, schema=SUMMARY), SUMMARY)


def _over_items(
    path: Path, rows: pd.DataFrame, resamples: int, level: float, rng: np.random.Generator
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the row of every block, and that of the mean over blocks.

    An item that has no ratio in one block is left out of all: blocks share their items.
    """
    if rows.duplicated(["item_id", "block"]).any():
        twice = rows.loc[rows.duplicated(["item_id", "block"]), "item_id"].iloc[0]
        raise DataError(f"{path}: row {twice}: occurs twice in a block; rerun its subject")
    wide = rows.pivot(index="item_id", columns="block", values="ratio")
    # pivot sorts by name; the draws are over the items in this order, whatever the file's.
    wide = wide[sorted(wide.columns)].dropna()
    blocks = [int(block) for block in wide.columns]
    if wide.empty:
        nothing = {"n": 0, "value": NAN, "low": NAN, "high": NAN}
        apart = {"distance": NAN, "distance_low": NAN, "distance_high": NAN}
        return [{"block": block} | nothing for block in blocks], nothing | apart
    columns = [wide[block].to_numpy(dtype=float) for block in wide.columns]
    drawn = resampled_means(columns, resamples=resamples, rng=rng)
    values = [float(column.mean()) for column in columns]
    curve = []
    for index, (block, value) in enumerate(zip(blocks, values, strict=True)):
        low, high = percentile_ends(drawn[:, index], level=level)
        curve.append({"block": block, "n": len(wide), "value": value, "low": low, "high": high})
    mean = float(np.mean(values))
    over_blocks = drawn.mean(1)
    low, high = percentile_ends(over_blocks, level=level)
    nearest, furthest = percentile_ends(np.abs(over_blocks - 1), level=level)
    return curve, {
        "n": len(wide),
        "value": mean,
        "low": low,
        "high": high,
        "distance": abs(mean - 1),
        "distance_low": nearest,
        "distance_high": furthest,
    }


def _parameters(manifest: Path | None) -> dict[str, int | None]:
    record = {} if manifest is None else read_manifest(manifest)
    return {
        "trained_language_model": record.get("trainable_language_model"),
        "trained_connector": record.get("trainable_connector"),
    }
