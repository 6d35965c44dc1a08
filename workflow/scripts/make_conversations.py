"""Write the alignment pairs and the instruction conversations."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.data.dataset import make_conversations

    make_conversations(
        study,
        Path(snakemake.input.concepts),
        Path(snakemake.output.align),
        Path(snakemake.output.instruct),
    )
