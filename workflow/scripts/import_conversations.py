"""Turn LLaVA's JSON into a table of conversations."""

from pathlib import Path

from running import job

with job(snakemake):
    from layersight.data.llava_json import import_llava

    import_llava(
        Path(snakemake.params.conversations),
        Path(snakemake.params.pictures),
        Path(snakemake.output[0]),
        published=snakemake.params.published,
    )
