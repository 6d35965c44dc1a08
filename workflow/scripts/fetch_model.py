"""Fetch a model of the hub into the asset cache."""

from pathlib import Path

from running import job

with job(snakemake, online=True) as study:
    from layersight.data.hub import fetch_part

    fetch_part(study, snakemake.params.part, Path(snakemake.output[0]))
