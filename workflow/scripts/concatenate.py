"""Put the tables of all subjects together, one table a name."""

from pathlib import Path

from running import as_list, job

with job(snakemake):
    from layersight.reporting.tables import concatenate

    for name, out in snakemake.output.items():
        concatenate(as_list(snakemake.input.get(name)), Path(out))
