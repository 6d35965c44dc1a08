"""Make the tiny random language model of a test study."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.models.stages import make_random_language_model

    make_random_language_model(
        study,
        tables=[Path(table) for table in snakemake.input],
        folder=Path(snakemake.output[0]),
    )
