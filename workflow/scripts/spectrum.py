"""Measure the spectrum and the massive activations of one subject's clouds."""

from pathlib import Path

from running import folders, job

with job(snakemake) as study:
    from layersight.geometry.shape_stages import measure_spectrum, spectrum_settings
    from layersight.seeds import derive_seed

    subject = snakemake.wildcards.subject
    measure_spectrum(
        subject=subject,
        activations=folders(snakemake.input.activations),
        streams=study.activations.stored,
        settings=spectrum_settings(study),
        seed=derive_seed(study.seed, f"geometry/{subject}/spectrum"),
        out=Path(snakemake.output.spectrum),
        massive_out=Path(snakemake.output.massive),
    )
