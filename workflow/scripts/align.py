"""Stage 1: feature alignment."""

from pathlib import Path

from running import job, work

with job(snakemake) as study:
    from layersight.tuning.stages import align

    align(
        study,
        language_model=Path(snakemake.input.language_model),
        conversations=Path(snakemake.input.conversations),
        features=Path(snakemake.input.features),
        out=Path(snakemake.output[0]),
        work=work(),
        checkpoint_seconds=snakemake.params.checkpoint_seconds,
    )
