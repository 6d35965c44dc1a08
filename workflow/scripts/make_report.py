"""Write the report, one self-contained page."""

from pathlib import Path

from running import first, job, manifests

with job(snakemake) as study:
    from layersight import artefacts
    from layersight.reporting.figure_names import tables_of
    from layersight.reporting.report import build_report

    concepts = first(snakemake.input.concepts)
    root = Path(artefacts.RESULTS.format(study=study.name))
    build_report(
        study,
        tables={name: root / table for name, table in tables_of(study).items()}
        | ({"concepts": concepts} if concepts else {}),
        figures=root / artefacts.FIGURES,
        manifests=manifests(root, snakemake.input.models),
        failed=snakemake.params.failed,
        out=Path(snakemake.output[0]),
    )
