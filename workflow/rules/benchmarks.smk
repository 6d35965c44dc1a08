"""Benchmarks: one subject answers every item; then scores and differences with intervals."""


rule score_items:
    """Let one subject answer every benchmark item, and score each."""
    input:
        language_model=language_model(),
        model=subject_model,
        features=results(artefacts.FEATURES),
        benchmarks=expand(results(artefacts.BENCHMARK), benchmark=STUDY.tasks),
    output:
        expand(
            results(artefacts.BENCHMARK_ITEMS),
            benchmark=STUDY.tasks,
            allow_missing=True,
        ),
    log:
        log_of("benchmarks/{subject}"),
    benchmark:
        timing_of("benchmarks/{subject}")
    wildcard_constraints:
        subject=WITH_CONNECTOR,
    conda:
        ENVIRONMENT
    threads: STUDY.compute.measuring_threads
    resources:
        **asked("score_items"),
    params:
        **told("score_items.py", *READ_BY_BENCHMARKS, parts="benchmarks"),
        **answers_to(STUDY.tasks),
    message:
        "Asking {wildcards.subject} the benchmark items"
    script:
        "../scripts/score_items.py"


if TEXT_BENCHMARKS:

    use rule score_items as score_base_items with:
        input:
            language_model=language_model(),
            benchmarks=expand(results(artefacts.BENCHMARK), benchmark=TEXT_BENCHMARKS),
        output:
            expand(
                results(artefacts.BENCHMARK_ITEMS),
                subject="base",
                benchmark=TEXT_BENCHMARKS,
            ),
        log:
            log_of("benchmarks/base"),
        benchmark:
            timing_of("benchmarks/base")
        resources:
            **asked("score_items", subject="base"),
        message:
            "Asking base the benchmark items"


if TEXT_BENCHMARKS and READS_TEXT:

    use rule score_items as score_text_items with:
        input:
            language_model=language_model(),
            model=subject_model,
            benchmarks=expand(results(artefacts.BENCHMARK), benchmark=TEXT_BENCHMARKS),
        output:
            expand(
                results(artefacts.BENCHMARK_ITEMS),
                benchmark=TEXT_BENCHMARKS,
                allow_missing=True,
            ),
        wildcard_constraints:
            subject=TEXT_ALONE,


rule score_tables:
    """Scores, and paired differences to the aligned backbone, with intervals."""
    input:
        all_benchmark_items(),
    output:
        scores=results(artefacts.TABLES["scores"]),
        differences=results(artefacts.TABLES["differences"]),
    log:
        log_of("score_tables"),
    benchmark:
        timing_of("score_tables")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("score_tables"),
    params:
        **told("score_tables.py", "seed", "statistics"),
    message:
        "Summarising benchmark scores"
    script:
        "../scripts/score_tables.py"
