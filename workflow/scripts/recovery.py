"""Summarise recovery over windows."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.reporting.tables import summarise_recovery

    summarise_recovery(
        study,
        items=[Path(path) for path in snakemake.input],
        out=Path(snakemake.output[0]),
    )
