"""Measure the token clouds of one subject, prompt by prompt."""

from pathlib import Path

from running import first, job, paths, work

with job(snakemake) as study:
    from layersight.activations.token_clouds import TokenCloudSettings, measure_token_clouds
    from layersight.models.subjects import features_of, load_subject

    stage = first(snakemake.input.get("model", []))
    default = first(snakemake.input.get("features", []))
    asked = study.token_clouds
    measure_token_clouds(
        study,
        load_subject(
            study,
            snakemake.wildcards.subject,
            language_model=Path(snakemake.input.language_model),
            stage=stage,
        ),
        probes=paths(snakemake.input.probes),
        features=default and features_of(stage, default),
        out=Path(snakemake.output[0]),
        settings=TokenCloudSettings(**asked.model_dump() | {"ks": tuple(asked.ks)}),
        work=work(),
    )
