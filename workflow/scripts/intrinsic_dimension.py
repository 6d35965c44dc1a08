"""Measure the intrinsic dimension of one subject's activations."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.geometry.stages import measure_intrinsic_dimension

    measure_intrinsic_dimension(
        study,
        subject=snakemake.wildcards.subject,
        activations=Path(snakemake.input.activations),
        probes=snakemake.params.probes,
        out=Path(snakemake.output[0]),
    )
