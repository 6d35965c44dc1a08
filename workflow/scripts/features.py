"""Compute image features of the frozen vision encoder."""

from pathlib import Path

from running import first, job

with job(snakemake) as study:
    from layersight.models.stages import compute_features, vision_weights

    marker = first(snakemake.input.package)
    compute_features(
        study,
        images=Path(snakemake.input.images),
        weights=vision_weights(study, marker.parent if marker else None),
        out=Path(snakemake.output[0]),
    )
