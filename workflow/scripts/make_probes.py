"""Write the probe sets."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.data.dataset import make_probes

    make_probes(
        study,
        Path(snakemake.input.concepts),
        {name: Path(path) for name, path in snakemake.output.items()},
    )
