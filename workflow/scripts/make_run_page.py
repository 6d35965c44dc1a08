"""Write the page of the run: machines, times, versions."""

from pathlib import Path

from running import job, manifests

with job(snakemake) as study:
    from layersight import artefacts
    from layersight.reporting.run_page import build_run_page

    root = Path(artefacts.RESULTS.format(study=study.name))
    timings = root / artefacts.TIMINGS
    build_run_page(
        study,
        manifests=manifests(
            root,
            snakemake.input.models,
            snakemake.input.activations,
            [Path(path).parent for path in snakemake.input.patching],
            [Path(path).parent for path in snakemake.input.benchmarks],
        ),
        timings={
            str(path.relative_to(timings).with_suffix("")): path
            for path in sorted(timings.rglob("*.tsv"))
        },
        out=Path(snakemake.output[0]),
    )
