"""Report: training curves, figures with what they show, and one self-contained page."""


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
        **ROUTINE,
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
        **ROUTINE,
    params:
        study=STUDY.model_dump(mode="json"),
    message:
        "Writing the resolved study"
    script:
        "../scripts/resolved_study.py"


rule figures:
    """Draw every figure from the tables, and say in two sentences what it shows."""
    input:
        **{name: results(table) for name, table in artefacts.TABLES.items()},
    output:
        **{
            name: report(
                results(artefacts.FIGURE).format(figure=name),
                caption=f"../report/{name}.rst",
                category="Figures",
                labels={"figure": name.replace("_", " ")},
            )
            for name in figures_of_study()
        },
        sentences=results(artefacts.SENTENCES),
    log:
        log_of("figures"),
    benchmark:
        timing_of("figures")
    conda:
        ENVIRONMENT
    threads: 2
    resources:
        **ROUTINE,
    params:
        study=take(
            STUDY,
            "name",
            "seeds",
            "variants",
            "concepts",
            "backbone",
            "activations",
            "geometry",
            "patching",
            "benchmarks",
            "probes",
            "statistics",
        ),
    message:
        "Drawing the figures"
    script:
        "../scripts/figures.py"


rule make_report:
    """Write the report, one self-contained page."""
    input:
        tables=[results(table) for table in artefacts.TABLES.values()],
        concepts=results(artefacts.CONCEPTS),
        figures=rules.figures.output,
        models=expand(results(artefacts.SUBJECT_MODEL), subject=MEASURED),
        activations=expand(results(artefacts.ACTIVATIONS), subject=ALL_SUBJECTS),
        patching=expand(results(artefacts.PATCHING), subject=STUDY.tuned_subjects),
        benchmarks=expand(results(artefacts.BENCHMARK_ITEMS), subject=ALL_SUBJECTS),
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
        **ROUTINE,
    params:
        study=STUDY.model_dump(mode="json"),
    message:
        "Writing the report"
    script:
        "../scripts/make_report.py"
