"""Measure how a tuned subject's representations differ from the aligned backbone's."""

from pathlib import Path

from running import folder, job, names

with job(snakemake) as study:
    from layersight.geometry.stages import measure_change

    measure_change(
        study,
        subject=snakemake.wildcards.subject,
        reference="aligned",
        activations=folder(snakemake.input.activations),
        reference_activations=folder(snakemake.input.reference),
        graphs=folder(snakemake.input.graphs),
        reference_graphs=folder(snakemake.input.reference_graphs),
        probes=names(snakemake.input.activations),
        out=Path(snakemake.output[0]),
    )
