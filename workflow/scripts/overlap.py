"""Count the neighbours that one subject shares, with others and between its own clouds."""

from pathlib import Path

from running import folders, job, paths

with job(snakemake) as study:
    from layersight.geometry.overlap_stages import measure_overlaps
    from layersight.geometry.overlap_tables import OverlapSettings
    from layersight.seeds import derive_seed

    subject = snakemake.wildcards.subject
    measure_overlaps(
        subject=subject,
        reference="aligned",
        graphs=folders(snakemake.input.graphs),
        reference_graphs=folders(snakemake.input.get("reference", [])),
        probes=paths(snakemake.input.probes),
        streams=study.activations.stored,
        settings=OverlapSettings(
            ks=tuple(study.geometry.ks),
            class_fractions=tuple(study.geometry.class_fractions),
            resamples=study.geometry.resamples,
            level=study.statistics.level,
        ),
        seed=derive_seed(study.seed, f"geometry/{subject}/overlap"),
        out=Path(snakemake.output.overlap),
        labels_out=Path(snakemake.output.label_overlap),
    )
