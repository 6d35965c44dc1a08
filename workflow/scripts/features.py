"""Compute image features of the frozen vision encoder."""

from pathlib import Path

from running import first, job

with job(snakemake) as study:
    from layersight.models.stages import compute_features, vision_weights

    compute_features(
        study,
        images=Path(snakemake.input.images),
        weights=vision_weights(study, first(snakemake.input.package)),
        out=Path(snakemake.output[0]),
    )
