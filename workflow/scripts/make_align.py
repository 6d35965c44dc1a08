"""Write the conversations of stage 1."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.data.dataset import make_align

    make_align(study, Path(snakemake.input.concepts), Path(snakemake.output[0]))
