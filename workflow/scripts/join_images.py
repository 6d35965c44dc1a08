"""Put the pictures of the concepts and of the questions into one table."""

from pathlib import Path

from running import job

with job(snakemake):
    from layersight.questions.read import join_images

    join_images([Path(path) for path in snakemake.input], Path(snakemake.output[0]))
