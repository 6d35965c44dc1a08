"""Write the benchmark items of all question sets."""

from running import job, paths

with job(snakemake) as study:
    from layersight.questions.ask import make_question_tasks

    make_question_tasks(study, paths(snakemake.input), paths(snakemake.output))
