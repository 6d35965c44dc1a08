"""Measure how far tuning moved the weights of every block."""

from pathlib import Path

from running import job

with job(snakemake):
    from layersight.tuning.weight_change import measure_weight_change

    measure_weight_change(
        subject=snakemake.wildcards.subject,
        language_model=Path(snakemake.input.language_model),
        tuned=Path(snakemake.input.tuned),
        out=Path(snakemake.output[0]),
    )
