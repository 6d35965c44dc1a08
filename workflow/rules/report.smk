"""Report: training curves, figures with what they show, and one self-contained page."""

TEMPLATES = ["file:reporting/templates"]


rule training_table:
    """Put the training logs of all subjects together."""
    input:
        models=expand(results(artefacts.SUBJECT_MODEL), subject=MEASURED),
    output:
        results(artefacts.TABLES["training"]),
    log:
        log_of("training_table"),
    benchmark:
        timing_of("training_table")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("training_table"),
    params:
        **told("training_table.py"),
    message:
        "Collecting the training logs"
    script:
        "../scripts/training_table.py"


rule resolved_study:
    """Write the study as it was understood, every default filled in."""
    output:
        results(artefacts.STUDY),
    log:
        log_of("resolved_study"),
    benchmark:
        timing_of("resolved_study")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("resolved_study"),
    params:
        **told("resolved_study.py", *type(STUDY).model_fields, estimates=True),
    message:
        "Writing the resolved study"
    script:
        "../scripts/resolved_study.py"


rule figures:
    """Draw every figure from the tables, and say in two sentences what it shows."""
    input:
        **{name: results(table) for name, table in tables_of(STUDY).items()},
    output:
        **{
            name: report(
                results(artefacts.FIGURE).format(figure=name),
                caption=f"../report/{name}.rst",
                category="Figures",
                labels={"figure": name.replace("_", " ")},
            )
            for name in figure_names(STUDY)
        },
        pdf=expand(results(artefacts.FIGURE_PDF), figure=figure_names(STUDY)),
        sentences=results(artefacts.SENTENCES),
    log:
        log_of("figures"),
    benchmark:
        timing_of("figures")
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        **asked("figures"),
    params:
        **told("figures.py", *READ_BY_FIGURES, failed=FAILED),
    message:
        "Drawing the figures"
    script:
        "../scripts/figures.py"


rule make_report:
    """Write the report, one self-contained page."""
    input:
        tables=[results(table) for table in tables_of(STUDY).values()],
        concepts=[results(artefacts.CONCEPTS)] if STUDY.shows_concepts else [],
        figures=rules.figures.output,
        models=expand(results(artefacts.SUBJECT_MODEL), subject=MEASURED),
    output:
        report(
            results(artefacts.REPORT),
            caption="../report/workflow.rst",
            category="Report",
        ),
    log:
        log_of("make_report"),
    benchmark:
        timing_of("make_report")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("make_report"),
    params:
        **told("make_report.py", *READ_BY_REPORT, also=TEMPLATES, failed=FAILED),
    message:
        "Writing the report"
    script:
        "../scripts/make_report.py"


rule make_run_page:
    """Write down on what machines the study ran, how long it took, and with what versions."""
    input:
        report=results(artefacts.REPORT),
        models=expand(results(artefacts.SUBJECT_MODEL), subject=MEASURED),
        activations=all_activations(),
        patching=expand(results(artefacts.PATCHING), subject=PATCHED),
        benchmarks=all_benchmark_items(),
    output:
        results(artefacts.RUN_PAGE),
    log:
        log_of("make_run_page"),
    benchmark:
        timing_of("make_run_page")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("make_run_page"),
    params:
        **told("make_run_page.py", "name", also=TEMPLATES),
    message:
        "Writing the page of the run"
    script:
        "../scripts/make_run_page.py"
