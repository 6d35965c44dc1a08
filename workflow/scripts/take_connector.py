"""Take a released connector in the place of stage 1."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.tuning.released import take_connector

    take_connector(
        study, checkpoint=Path(snakemake.input.checkpoint), out=Path(snakemake.output[0])
    )
