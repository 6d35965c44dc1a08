"""Write the benchmark items."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.data.dataset import make_benchmarks

    make_benchmarks(
        study,
        Path(snakemake.input.concepts),
        Path(snakemake.input.instruct),
        {name: Path(path) for name, path in snakemake.output.items()},
    )
