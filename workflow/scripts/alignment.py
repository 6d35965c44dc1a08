"""Measure how one subject's clouds are aligned: images with words, tuned with aligned."""

from pathlib import Path

from running import as_list, folder, folders, job

with job(snakemake) as study:
    from layersight.geometry.pairs import PAIRS
    from layersight.geometry.shape_stages import ShapeSettings, measure_alignment
    from layersight.seeds import derive_seed

    geometry, asked = study.geometry, study.geometry.alignment
    before = as_list(snakemake.input.get("reference", []))
    measure_alignment(
        subject=snakemake.wildcards.subject,
        activations=folder(snakemake.input.activations),
        graphs=folders(snakemake.input.graphs),
        pairs=PAIRS,
        streams=study.activations.stored,
        settings=ShapeSettings(
            resamples=geometry.subsamples,
            fraction=geometry.subsample_fraction,
            level=study.statistics.level,
            variance=asked.variance,
            k=asked.imbalance_k,
            permutations=asked.permutations,
            two_nn_fraction=geometry.two_nn_fraction,
            most_items=asked.most_items,
        ),
        # Without the subject: the same draws for all, so that they compare.
        seed=derive_seed(study.seed, "geometry/alignment"),
        out=Path(snakemake.output[0]),
        reference="aligned",
        reference_activations=before[0].parent if before else None,
        reference_graphs=folders(snakemake.input.get("reference_graphs", [])),
    )
