"""Convert the packaged language model to safetensors."""

from pathlib import Path

from running import job

with job(snakemake):
    from layersight.models.language import convert_gguf

    convert_gguf(
        Path(snakemake.input[0]).parent / snakemake.params.member, Path(snakemake.output[0])
    )
