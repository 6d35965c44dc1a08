"""Put the training logs of all subjects together."""

from pathlib import Path

from running import job

with job(snakemake):
    from layersight.reporting.tables import concatenate
    from layersight.tuning.log import LOG

    concatenate([Path(model) / LOG for model in snakemake.input], Path(snakemake.output[0]))
