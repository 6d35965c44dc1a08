"""Find the density peaks of one subject's clouds."""

from pathlib import Path

from running import first, folders, job, paths

with job(snakemake) as study:
    from layersight.geometry.density_stages import (
        DensitySettings,
        labels_of_pool,
        labels_of_probe,
        measure_density,
    )
    from layersight.geometry.pairs import POOLED_STREAMS
    from layersight.seeds import derive_seed

    geometry = study.geometry
    pooled = folders(snakemake.input.get("pooled", []))
    labels = {
        probe: labels_of_probe(table) for probe, table in paths(snakemake.input.probes).items()
    }
    # Both probe sets of a pair show the same items, whatever set labels them.
    table = first(snakemake.input.probes)
    labels |= {name: labels_of_pool(folder, table) for name, folder in pooled.items()}
    measure_density(
        subject=snakemake.wildcards.subject,
        graphs=folders(snakemake.input.graphs) | pooled,
        labels=labels,
        streams=[*study.activations.stored, *POOLED_STREAMS],
        settings=DensitySettings(
            k=geometry.density.k,
            z=geometry.density.z,
            resamples=geometry.subsamples,
            fraction=geometry.subsample_fraction,
            level=study.statistics.level,
        ),
        # Without the subject: the same subsets for all, so that they compare.
        seed=derive_seed(study.seed, "geometry/density"),
        out=Path(snakemake.output.density),
        merges_out=Path(snakemake.output.merges),
        peaks_out=Path(snakemake.output.peaks),
    )
