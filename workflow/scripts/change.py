"""Measure how a tuned subject's representations differ from the aligned backbone's."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.geometry.stages import measure_change

    measure_change(
        study,
        subject=snakemake.wildcards.subject,
        reference="aligned",
        activations=Path(snakemake.input.activations),
        reference_activations=Path(snakemake.input.reference),
        probes=snakemake.params.probes,
        out=Path(snakemake.output[0]),
    )
