"""Fetch and check the files of a question set of the hub into the asset cache."""

from pathlib import Path

from running import job

with job(snakemake, online=True) as study:
    from layersight.questions.sources import fetch_questions

    fetch_questions(study.questions[snakemake.params.questions], Path(snakemake.params.cache))
