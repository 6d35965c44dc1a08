"""Let one subject answer every benchmark item."""

from pathlib import Path

from running import first, job, paths

with job(snakemake) as study:
    from layersight.benchmarks.run import run_benchmarks
    from layersight.models.subjects import load_subject

    run_benchmarks(
        study,
        load_subject(
            study,
            snakemake.wildcards.subject,
            language_model=Path(snakemake.input.language_model),
            stage=first(snakemake.input.model),
        ),
        benchmarks=paths(snakemake.input.benchmarks, snakemake.params.benchmarks),
        features=Path(snakemake.input.features),
        out=Path(snakemake.output[0]),
    )
