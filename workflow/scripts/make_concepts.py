"""Choose the concepts of the study."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.data.dataset import make_concepts

    make_concepts(study, Path(snakemake.params.cache), Path(snakemake.output[0]))
