"""Write the report, one self-contained page."""

from pathlib import Path

from running import job, manifests

with job(snakemake) as study:
    from layersight import artefacts
    from layersight.reporting.figure_names import tables_of
    from layersight.reporting.report import build_report

    root = Path(artefacts.RESULTS.format(study=study.name))
    build_report(
        study,
        tables={name: root / table for name, table in tables_of(study).items()}
        | {"concepts": Path(snakemake.input.concepts)},
        figures=root / artefacts.FIGURES,
        manifests=manifests(root, snakemake.input.models),
        failed=snakemake.params.failed,
        out=Path(snakemake.output[0]),
    )
