"""Draw every concept in every style."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.data.dataset import make_images

    make_images(
        study,
        Path(snakemake.input.concepts),
        Path(snakemake.params.cache),
        Path(snakemake.output[0]),
    )
