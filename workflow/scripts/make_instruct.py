"""Write the instruction conversations of stage 2."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.data.dataset import make_instruct

    make_instruct(study, Path(snakemake.input.concepts), Path(snakemake.output[0]))
