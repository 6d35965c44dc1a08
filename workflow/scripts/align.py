"""Stage 1: feature alignment."""

from pathlib import Path

from running import job, live, tensorboard, work

with job(snakemake):
    from layersight.tuning.launch import launch
    from layersight.tuning.stages import align

    launch(
        align,
        snakemake.params.study,
        language_model=Path(snakemake.input.language_model),
        conversations=Path(snakemake.input.conversations),
        features=Path(snakemake.input.features),
        out=Path(snakemake.output[0]),
        work=work(),
        checkpoint_seconds=snakemake.params.checkpoint_seconds,
        live=live(snakemake),
        tensorboard=tensorboard(snakemake),
    )
