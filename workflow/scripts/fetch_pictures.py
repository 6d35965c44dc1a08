"""Fetch, check and unpack an archive of pictures into the asset cache."""

from pathlib import Path

from running import job

with job(snakemake, online=True) as study:
    from layersight.data.elsewhere import fetch_pictures
    from layersight.data.wanted import QUESTIONS
    from layersight.questions.sources import fetch_question_pictures

    stage, folder = snakemake.params.stage, snakemake.params.folder
    cache = Path(snakemake.params.cache)
    if stage.startswith(QUESTIONS):
        fetch_question_pictures(study.questions[stage.removeprefix(QUESTIONS)], cache)
    else:
        fetch_pictures(getattr(study, stage).data, folder, cache)
