"""Write the probe sets that are made of a question set."""

from pathlib import Path

from running import job

with job(snakemake) as study:
    from layersight.questions.ask import make_question_probes

    make_question_probes(
        study,
        Path(snakemake.input.questions),
        {name: Path(path) for name, path in snakemake.output.items()},
    )
