"""Fetch, check and unpack an archive of pictures into the asset cache."""

from pathlib import Path

from running import job

with job(snakemake, online=True) as study:
    from layersight.data.elsewhere import fetch_pictures

    stage, folder = snakemake.params.stage, snakemake.params.folder
    fetch_pictures(getattr(study, stage).data, folder, Path(snakemake.params.cache))
