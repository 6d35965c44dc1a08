"""Put the attention ratios of all subjects together, with intervals."""

from pathlib import Path

from running import as_list, job, manifests

with job(snakemake) as study:
    from layersight import artefacts
    from layersight.reporting.tables import summarise_attention

    root = Path(artefacts.RESULTS.format(study=study.name))
    summarise_attention(
        study,
        items=as_list(snakemake.input.ratios),
        manifests=manifests(root, snakemake.input.models),
        out=Path(snakemake.output.attention),
        summary=Path(snakemake.output.attention_summary),
    )
