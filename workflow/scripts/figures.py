"""Draw every figure from the tables."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.reporting.report import build_figures

    build_figures(
        study,
        tables={name: Path(path) for name, path in snakemake.input.items()},
        out=Path(snakemake.output.sentences).parent,
        processes=snakemake.threads,
        failed=snakemake.params.failed,
    )
