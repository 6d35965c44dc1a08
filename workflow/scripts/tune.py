"""Stage 2: visual instruction tuning of one variant and seed."""

from pathlib import Path

from running import job, work

with job(snakemake) as study:
    from layersight.tuning.stages import tune

    tune(
        study,
        variant=snakemake.wildcards.variant,
        seed=int(snakemake.wildcards.seed),
        language_model=Path(snakemake.input.language_model),
        aligned=Path(snakemake.input.aligned),
        conversations=Path(snakemake.input.conversations),
        features=Path(snakemake.input.features),
        out=Path(snakemake.output[0]),
        work=work(),
        checkpoint_seconds=snakemake.params.checkpoint_seconds,
    )
