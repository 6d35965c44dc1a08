"""Fit linear probes to every layer of one subject."""

from pathlib import Path

from running import folder, job, names

with job(snakemake) as study:
    from layersight.geometry.linear_probe_tables import LinearProbeSettings, measure_linear_probes
    from layersight.geometry.pairs import pairs_of
    from layersight.seeds import derive_seed

    asked, activations = study.linear_probes, snakemake.input.activations
    measure_linear_probes(
        subject=snakemake.wildcards.subject,
        activations=folder(activations),
        pairs=pairs_of(names(activations), study.activations.stored),
        probe=Path(snakemake.input.probe),
        out=Path(snakemake.output[0]),
        label=asked.label,
        control="concept" if asked.label == "subgroup" else "subgroup",
        settings=LinearProbeSettings(
            strengths=tuple(asked.strengths),
            folds=asked.folds,
            inner_folds=asked.inner_folds,
            controls=asked.controls,
            resamples=study.geometry.resamples,
            level=study.statistics.level,
        ),
        # Without the subject: folds and control labels are the same for all.
        seed=derive_seed(study.seed, "geometry/linear_probes"),
    )
