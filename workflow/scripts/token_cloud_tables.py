"""Summarise the token clouds of all subjects."""

from pathlib import Path

from running import as_list, job

with job(snakemake) as study:
    from layersight.geometry.token_cloud_tables import summarise_token_clouds
    from layersight.seeds import derive_seed

    summarise_token_clouds(
        tables=as_list(snakemake.input.clouds),
        means=Path(snakemake.output.token_clouds),
        losses=Path(snakemake.output.token_cloud_loss),
        resamples=study.geometry.resamples,
        level=study.statistics.level,
        seed=derive_seed(study.seed, "tables/token_clouds"),
    )
