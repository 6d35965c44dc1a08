"""Find where in depth the change of every variant concentrates."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.geometry.concentration import measure_concentration

    measure_concentration(
        change=Path(snakemake.input.change),
        weights=Path(snakemake.input.matrices),
        out=Path(snakemake.output[0]),
        level=study.statistics.level,
        share=study.geometry.concentration_share,
    )
