"""Measure how one subject divides its attention while it answers."""

from pathlib import Path

from running import first, job, work

with job(snakemake) as study:
    from layersight.attention.measure import measure_attention
    from layersight.models.subjects import features_of, load_subject

    stage = first(snakemake.input.model)
    measure_attention(
        study,
        load_subject(
            study,
            snakemake.wildcards.subject,
            language_model=Path(snakemake.input.language_model),
            stage=stage,
        ),
        Path(snakemake.input.questions),
        features_of(stage, Path(snakemake.input.features)),
        Path(snakemake.output[0]),
        work=work(),
    )
