"""Let one subject answer every benchmark item."""

from pathlib import Path

from running import first, job, parts, paths, work

with job(snakemake) as study:
    from layersight.benchmarks.run import run_benchmarks
    from layersight.models.subjects import features_of, load_subject

    stage = first(snakemake.input.get("model", []))
    default = first(snakemake.input.get("features", []))
    tables = paths(snakemake.input.benchmarks)
    outs = parts(list(tables))
    run_benchmarks(
        study,
        load_subject(
            study,
            snakemake.wildcards.get("subject", "base"),
            language_model=Path(snakemake.input.language_model),
            stage=stage,
        ),
        benchmarks={name: tables[name] for name in outs},
        features=default and features_of(stage, default),
        outs=outs,
        questions=snakemake.params.get("questions"),
        work=work(),
    )
