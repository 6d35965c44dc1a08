"""Compare how one subject represents images and their words."""

from pathlib import Path

from running import folder, job, names

with job(snakemake) as study:
    from layersight.geometry.stages import measure_cross_modal

    measure_cross_modal(
        study,
        subject=snakemake.wildcards.subject,
        activations=folder(snakemake.input.activations),
        graphs=folder(snakemake.input.graphs),
        probes=names(snakemake.input.activations),
        probe=Path(snakemake.input.probe),
        out=Path(snakemake.output[0]),
    )
