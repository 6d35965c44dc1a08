"""The study's tables: the tables of single jobs put together, and the statistics over items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from layersight.benchmarks.items import ITEMS as BENCHMARK_ITEMS
from layersight.benchmarks.summary import difference_table, score_table
from layersight.errors import DataError
from layersight.interventions.items import ITEMS as PATCHING_ITEMS
from layersight.interventions.recovery import recovery_table
from layersight.seeds import derive_seed
from layersight.storage.tables import read_table, write_table
from layersight.study import Study


def concatenate(parts: Sequence[Path], out: Path) -> None:
    """Put tables of one schema together, in the given order.

    Raises:
        DataError: the tables differ in their columns.
    """
    tables = [read_table(part) for part in parts]
    for part, table in zip(parts, tables, strict=True):
        if table.schema != tables[0].schema:
            raise DataError(f"{part}: has other columns than {parts[0]}; rerun both")
    write_table(out, pa.concat_tables(tables), tables[0].schema)


def summarise_scores(
    study: Study, *, items: Sequence[Path], scores: Path, differences: Path
) -> None:
    """Write scores with intervals, and paired differences to the aligned backbone."""
    frame = _frames(items, BENCHMARK_ITEMS)
    settings = study.statistics
    scored = score_table(
        frame,
        resamples=settings.resamples,
        level=settings.level,
        seed=derive_seed(study.seed, "tables/scores"),
    )
    write_table(scores, scored, _schema(scored))
    compared = difference_table(
        frame,
        "aligned",
        resamples=settings.resamples,
        level=settings.level,
        seed=derive_seed(study.seed, "tables/differences"),
    )
    write_table(differences, compared, _schema(compared))


def summarise_recovery(study: Study, *, items: Sequence[Path], out: Path) -> None:
    """Write the recovery of every window with its interval."""
    frame = _frames(items, PATCHING_ITEMS)
    table = recovery_table(
        frame,
        resamples=study.statistics.resamples,
        level=study.statistics.level,
        seed=derive_seed(study.seed, "tables/recovery"),
    )
    write_table(out, table, _schema(table))


def _frames(parts: Sequence[Path], schema: pa.Schema) -> pd.DataFrame:
    return pa.concat_tables([read_table(part, schema) for part in parts]).to_pandas()


def _schema(frame: pd.DataFrame) -> pa.Schema:
    return pa.Schema.from_pandas(frame, preserve_index=False).remove_metadata()
