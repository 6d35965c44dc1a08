"""Measure the intrinsic dimension of one subject's activations."""

from pathlib import Path

from running import folder, job, names

with job(snakemake) as study:
    from layersight.geometry.stages import measure_intrinsic_dimension

    measure_intrinsic_dimension(
        study,
        subject=snakemake.wildcards.subject,
        activations=folder(snakemake.input.activations),
        probes=names(snakemake.input.activations),
        out=Path(snakemake.output[0]),
    )
