"""Read the activations of one subject on its probe sets."""

from pathlib import Path

from running import first, job, paths

with job(snakemake) as study:
    from layersight.activations.dump import dump
    from layersight.models.subjects import load_subject

    dump(
        study,
        load_subject(
            study,
            snakemake.wildcards.subject,
            language_model=Path(snakemake.input.language_model),
            stage=first(snakemake.input.model),
        ),
        probes=paths(snakemake.input.probes, snakemake.params.probes),
        features=Path(snakemake.input.features),
        out=Path(snakemake.output[0]),
    )
