"""Read the activations of one subject on its probe sets."""

from pathlib import Path

from running import first, job, parts, paths, work

with job(snakemake) as study:
    from layersight.activations.dump import dump
    from layersight.models.subjects import features_of, load_subject

    stage = first(snakemake.input.get("model", []))
    default = first(snakemake.input.get("features", []))
    tables = paths(snakemake.input.probes)
    outs = parts(list(tables))
    dump(
        study,
        load_subject(
            study,
            snakemake.wildcards.get("subject", "base"),
            language_model=Path(snakemake.input.language_model),
            stage=stage,
        ),
        probes={name: tables[name] for name in outs},
        features=default and features_of(stage, default),
        outs=outs,
        work=work(),
    )
