"""Patch blocks between the aligned backbone and one tuned subject."""

from pathlib import Path

from running import job, work

with job(snakemake) as study:
    from layersight.interventions.sweep import run_sweep
    from layersight.models.subjects import features_of, load_subject

    aligned, tuned = (
        load_subject(
            study,
            name,
            language_model=Path(snakemake.input.language_model),
            stage=Path(folder),
        )
        for name, folder in (
            ("aligned", snakemake.input.aligned),
            (snakemake.wildcards.subject, snakemake.input.tuned),
        )
    )
    default = Path(snakemake.input.features)
    own = features_of(Path(snakemake.input.tuned), default)
    run_sweep(
        study,
        aligned,
        tuned,
        benchmark=Path(snakemake.input.benchmark),
        features=default,
        tuned_features=own if own != default else None,
        max_new_tokens=snakemake.params.get("max_new_tokens"),
        out=Path(snakemake.output[0]),
        work=work(),
    )
