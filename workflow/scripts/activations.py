"""Read the activations of one subject on its probe sets."""

from pathlib import Path

from running import first, job, parts, paths, work

with job(snakemake) as study:
    from layersight.activations.dump import dump
    from layersight.models.subjects import load_subject

    tables = paths(snakemake.input.probes)
    outs = parts(list(tables))
    dump(
        study,
        load_subject(
            study,
            snakemake.wildcards.get("subject", "base"),
            language_model=Path(snakemake.input.language_model),
            stage=first(snakemake.input.get("model", [])),
        ),
        probes={name: tables[name] for name in outs},
        features=first(snakemake.input.get("features", [])),
        outs=outs,
        work=work(),
    )
