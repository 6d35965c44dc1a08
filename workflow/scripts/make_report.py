"""Write the report, one self-contained page."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight import artefacts
    from layersight.reporting.report import build_report

    root = Path(artefacts.RESULTS.format(study=study.name))
    timings = root / artefacts.TIMINGS
    build_report(
        study,
        tables={name: root / table for name, table in artefacts.TABLES.items()}
        | {"concepts": Path(snakemake.input.concepts)},
        figures=root / artefacts.FIGURES,
        manifests={
            str(path.parent.relative_to(root)): path
            for path in sorted(root.rglob(artefacts.MANIFEST))
        },
        timings={
            str(path.relative_to(timings).with_suffix("")): path
            for path in sorted(timings.rglob("*.tsv"))
        },
        out=Path(snakemake.output[0]),
    )
