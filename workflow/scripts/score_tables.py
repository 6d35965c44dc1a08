"""Summarise benchmark scores with intervals."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.reporting.tables import summarise_scores

    summarise_scores(
        study,
        items=[Path(path) for path in snakemake.input],
        scores=Path(snakemake.output.scores),
        differences=Path(snakemake.output.differences),
    )
