"""Measure how one subject's clouds are aligned: images with words, tuned with aligned."""

from pathlib import Path

from running import folders, job

with job(snakemake) as study:
    from layersight.geometry.shape_stages import alignment_settings, measure_alignment
    from layersight.seeds import derive_seed

    subject = snakemake.wildcards.subject
    measure_alignment(
        subject=subject,
        reference="aligned",
        activations=folders(snakemake.input.activations),
        reference_activations=folders(snakemake.input.get("reference", [])),
        graphs=folders(snakemake.input.graphs),
        reference_graphs=folders(snakemake.input.get("reference_graphs", [])),
        streams=study.activations.stored,
        settings=alignment_settings(study),
        seed=derive_seed(study.seed, f"geometry/{subject}/alignment"),
        out=Path(snakemake.output[0]),
    )
