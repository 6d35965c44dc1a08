"""Fetch and check the conversations of a data set of the hub into the asset cache."""

from pathlib import Path

from running import job

with job(snakemake, online=True) as study:
    from layersight.data.elsewhere import fetch_conversations

    fetch_conversations(getattr(study, snakemake.params.stage).data, Path(snakemake.params.cache))
