"""Find the density peaks of one subject's clouds."""

from pathlib import Path

from running import folders, job, paths

with job(snakemake) as study:
    from layersight.geometry.density_stages import density_settings, measure_density

    from layersight.seeds import derive_seed

    subject = snakemake.wildcards.subject
    measure_density(
        subject=subject,
        graphs=folders(snakemake.input.graphs),
        pooled=folders(snakemake.input.get("pooled", [])),
        probes=paths(snakemake.input.probes),
        streams=study.activations.streams,
        settings=density_settings(study),
        seed=derive_seed(study.seed, f"geometry/{subject}/density"),
        out=Path(snakemake.output.density),
        merges_out=Path(snakemake.output.merges),
        peaks_out=Path(snakemake.output.peaks),
    )
