"""Stage 1: feature alignment."""

from pathlib import Path

from running import first, job, live, tensorboard, work

with job(snakemake) as study:
    from layersight.models.stages import vision_weights
    from layersight.tuning.launch import launch
    from layersight.tuning.stages import align

    asset = first(snakemake.input.package)
    launch(
        align,
        snakemake.params.study,
        language_model=Path(snakemake.input.language_model),
        conversations=Path(snakemake.input.conversations),
        features=Path(snakemake.input.features),
        out=Path(snakemake.output[0]),
        pictures=snakemake.params.pictures and Path(snakemake.params.pictures),
        vision_weights=vision_weights(study, asset) if asset else None,
        work=work(),
        checkpoint_seconds=snakemake.params.checkpoint_seconds,
        live=live(snakemake),
        tensorboard=tensorboard(snakemake),
    )
