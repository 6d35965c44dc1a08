"""Measure how far tuning moved every matrix of every block."""

from pathlib import Path

from running import job

with job(snakemake):
    from layersight.tuning.matrix_change import measure_weights

    measure_weights(
        subject=snakemake.wildcards.subject,
        language_model=Path(snakemake.input.language_model),
        tuned=Path(snakemake.input.tuned),
        out=Path(snakemake.output.blocks),
        matrices_out=Path(snakemake.output.matrices),
    )
