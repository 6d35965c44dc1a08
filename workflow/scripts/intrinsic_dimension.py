"""Measure the intrinsic dimension of one subject's clouds."""

from pathlib import Path

from running import folders, job

with job(snakemake) as study:
    from layersight.geometry.graph_stages import measure_dimension
    from layersight.geometry.graph_tables import DimensionSettings
    from layersight.seeds import derive_seed

    geometry, subject = study.geometry, snakemake.wildcards.subject
    measure_dimension(
        subject=subject,
        graphs=folders(snakemake.input.graphs),
        streams=study.activations.stored,
        settings=DimensionSettings(
            two_nn_fraction=geometry.two_nn_fraction,
            gride_range_max=geometry.gride_range_max,
            decimated_fewest=geometry.decimated_fewest,
            plateau_width=geometry.plateau_width,
            resamples=geometry.resamples,
            level=study.statistics.level,
        ),
        seed=derive_seed(study.seed, f"geometry/{subject}/intrinsic_dimension"),
        dimension_out=Path(snakemake.output[0]),
    )
