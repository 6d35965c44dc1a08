"""Measure the spectrum and the massive activations of one subject's clouds."""

from pathlib import Path

from running import folder, job, names

with job(snakemake) as study:
    from layersight.geometry.shape_stages import ShapeSettings, measure_spectrum
    from layersight.seeds import derive_seed

    geometry = study.geometry
    measure_spectrum(
        subject=snakemake.wildcards.subject,
        activations=folder(snakemake.input.activations),
        probes=names(snakemake.input.activations),
        streams=study.activations.stored,
        settings=ShapeSettings(
            resamples=geometry.subsamples,
            fraction=geometry.subsample_fraction,
            level=study.statistics.level,
            magnitude=geometry.spectrum.massive_magnitude,
            ratio=geometry.spectrum.massive_ratio,
        ),
        # Without the subject: the same subsets for all, so that they compare.
        seed=derive_seed(study.seed, "geometry/spectrum"),
        out=Path(snakemake.output.spectrum),
        massive_out=Path(snakemake.output.massive),
    )
