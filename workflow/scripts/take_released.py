"""Take a released model as a subject."""

from pathlib import Path

from running import first, job

with job(snakemake) as study:
    from layersight.models.stages import vision_weights
    from layersight.tuning.released import take_released

    asset = first(snakemake.input.package)
    take_released(
        study,
        variant=snakemake.wildcards.variant,
        language_model=Path(snakemake.input.language_model),
        checkpoint=Path(snakemake.input.checkpoint),
        out=Path(snakemake.output[0]),
        images=first(snakemake.input.images),
        vision_weights=vision_weights(study, asset) if asset else None,
    )
