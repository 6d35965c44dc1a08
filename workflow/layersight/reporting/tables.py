"""The study's tables: the tables of single jobs put together, and the statistics over items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from layersight.attention.summary import attention_table
from layersight.benchmarks.items import ITEMS as BENCHMARK_ITEMS
from layersight.benchmarks.items import QUESTION_ITEMS
from layersight.benchmarks.summary import difference_table, score_table
from layersight.errors import DataError
from layersight.interventions.items import ITEMS as PATCHING_ITEMS
from layersight.interventions.recovery import recovery_table
from layersight.seeds import derive_seed
from layersight.storage.tables import fitted, read_table, write_table
from layersight.study import Study

SCORES = pa.schema(
    [
        ("subject", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("benchmark", pa.string()),
        ("split", pa.string()),
        ("condition", pa.string()),
        ("metric", pa.string()),
        ("n", pa.int64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("chance", pa.float64()),
        ("majority", pa.float64()),
    ]
)
DIFFERENCES = pa.schema(
    [
        ("subject", pa.string()),
        ("reference", pa.string()),
        ("benchmark", pa.string()),
        ("split", pa.string()),
        ("condition", pa.string()),
        ("metric", pa.string()),
        ("n", pa.int64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
RECOVERY = pa.schema(
    [
        ("variant", pa.string()),
        ("seed", pa.int64()),
        ("direction", pa.string()),
        ("sweep", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("connector", pa.string()),
        ("metric", pa.string()),
        ("n", pa.int64()),
        ("score", pa.float64()),
        ("score_low", pa.float64()),
        ("score_high", pa.float64()),
        ("score_base", pa.float64()),
        ("score_tuned", pa.float64()),
        ("recovery", pa.float64()),
        ("recovery_low", pa.float64()),
        ("recovery_high", pa.float64()),
        ("undefined_share", pa.float64()),
    ]
)


def concatenate(parts: Sequence[Path], out: Path) -> None:
    """Put tables of one schema together, in the given order.

    Without any part, as when every variant failed, the table is empty; its columns are those of the
    table of `artefacts.TABLES` whose name `out` has.

    Raises:
        DataError: the tables differ in their columns, or there are none and `out` has no known
            name.
    """
    if not parts:
        write_table(out, [], _schema_of(Path(out)))
        return
    tables = [read_table(part) for part in parts]
    for part, table in zip(parts, tables, strict=True):
        if table.schema != tables[0].schema:
            raise DataError(f"{part}: has other columns than {parts[0]}; rerun both")
    write_table(out, pa.concat_tables(tables), tables[0].schema)


def summarise_scores(
    study: Study, *, items: Sequence[Path], scores: Path, differences: Path
) -> None:
    """Write scores with intervals, and paired differences to the aligned backbone."""
    frame = _answers(items)
    settings = study.statistics
    scored = score_table(
        frame,
        resamples=settings.resamples,
        level=settings.level,
        seed=derive_seed(study.seed, "tables/scores"),
    )
    write_table(scores, scored, SCORES)
    compared = difference_table(
        frame,
        "aligned",
        resamples=settings.resamples,
        level=settings.level,
        seed=derive_seed(study.seed, "tables/differences"),
    )
    write_table(differences, compared, DIFFERENCES)


def summarise_recovery(study: Study, *, items: Sequence[Path], out: Path) -> None:
    """Write the recovery of every window with its interval; an empty table without any items."""
    if not items:
        write_table(out, [], RECOVERY)
        return
    frame = _frames(items, PATCHING_ITEMS)
    table = recovery_table(
        frame,
        resamples=study.statistics.resamples,
        level=study.statistics.level,
        seed=derive_seed(study.seed, "tables/recovery"),
    )
    write_table(out, table, RECOVERY)


def summarise_attention(
    study: Study,
    *,
    items: Sequence[Path],
    manifests: Mapping[str, Path],
    out: Path,
    summary: Path,
) -> None:
    """Write LMAR per block and its mean over blocks, with intervals and trained parameters.

    Args:
        study: `seed` and `statistics` are read.
        items: one table a subject, in the order that the tables are to have.
        manifests: artefact (such as `models/full/seed-0`) to its `manifest.json`.
        out: table with one row per subject, block and form of the ratio.
        summary: table with one row per subject and form of the ratio.
    """
    attention_table(
        items,
        out,
        summary,
        manifests=manifests,
        resamples=study.statistics.resamples,
        level=study.statistics.level,
        seed=derive_seed(study.seed, "tables/attention"),
    )


def _answers(parts: Sequence[Path]) -> pd.DataFrame:
    """Return all answers; `exact` is there where any are to questions from elsewhere."""
    tables = []
    for part in parts:
        table = read_table(part)
        asked = QUESTION_ITEMS if "exact" in table.column_names else BENCHMARK_ITEMS
        tables.append(fitted(part, table, asked))
    return pa.concat_tables(tables, promote_options="default").to_pandas()


def _frames(parts: Sequence[Path], schema: pa.Schema) -> pd.DataFrame:
    return pa.concat_tables([read_table(part, schema) for part in parts]).to_pandas()


def _schema_of(table: Path) -> pa.Schema:
    # Only here: the modules that own these schemas load torch.
    from layersight.geometry.graph_tables import DIMENSION
    from layersight.geometry.linear_probe_tables import LINEAR_PROBES
    from layersight.geometry.overlap_tables import LABEL_OVERLAP, OVERLAP
    from layersight.geometry.stages import CHANGE, CROSS_MODAL
    from layersight.tuning.log import TRAINING
    from layersight.tuning.matrix_change import MATRIX_CHANGE
    from layersight.tuning.weight_change import SCHEMA as WEIGHT_CHANGE

    schemas = {
        "intrinsic_dimension": DIMENSION,
        "overlap": OVERLAP,
        "label_overlap": LABEL_OVERLAP,
        "linear_probes": LINEAR_PROBES,
        "matrix_change": MATRIX_CHANGE,
        "cross_modal": CROSS_MODAL,
        "change": CHANGE,
        "weight_change": WEIGHT_CHANGE,
        "training": TRAINING,
    }
    if table.stem not in schemas:
        raise DataError(f"{table}: nothing to put together; rerun what makes its parts")
    return schemas[table.stem]
