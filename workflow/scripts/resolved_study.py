"""Write the study as it was understood, every default filled in."""

from pathlib import Path

import yaml
from running import job

with job(snakemake) as study:
    from layersight.storage.atomic import atomic_file

    with atomic_file(Path(snakemake.output[0])) as beside:
        beside.write_text(
            yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )
