"""Stage 2: visual instruction tuning of one variant and seed."""

from pathlib import Path

from running import first, job, live, tensorboard, work

with job(snakemake) as study:
    from layersight.models.stages import vision_weights
    from layersight.tuning.launch import launch
    from layersight.tuning.stages import tune

    # Pictures and encoder are inputs where the encoder learns.
    images = first(snakemake.input.images)
    asset = first(snakemake.input.package)
    launch(
        tune,
        snakemake.params.study,
        variant=snakemake.wildcards.variant,
        seed=int(snakemake.wildcards.seed),
        language_model=Path(snakemake.input.language_model),
        aligned=Path(snakemake.input.aligned),
        conversations=Path(snakemake.input.conversations),
        features=Path(snakemake.input.features),
        out=Path(snakemake.output[0]),
        images=images,
        pictures=snakemake.params.pictures and Path(snakemake.params.pictures),
        vision_weights=vision_weights(study, asset) if asset else None,
        work=work(),
        checkpoint_seconds=snakemake.params.checkpoint_seconds,
        live=live(snakemake),
        tensorboard=tensorboard(snakemake),
    )
