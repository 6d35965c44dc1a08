"""Choose the questions of a set, and read their pictures."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.questions.read import read_questions

    read_questions(
        study,
        snakemake.params.questions,
        cache=Path(snakemake.params.cache),
        out=Path(snakemake.output.questions),
        images=Path(snakemake.output.images),
    )
