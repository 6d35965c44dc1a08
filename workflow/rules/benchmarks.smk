"""Benchmarks: one subject answers every item; then scores and differences with intervals."""


rule score_items:
    """Let one subject answer every benchmark item, and score each."""
    input:
        language_model=language_model(),
        model=subject_model,
        features=results(artefacts.FEATURES),
        benchmarks=lambda wildcards: expand(
            results(artefacts.BENCHMARK), benchmark=benchmarks_of(wildcards.subject)
        ),
    output:
        results(artefacts.BENCHMARK_ITEMS),
    log:
        log_of("benchmarks/{subject}"),
    benchmark:
        timing_of("benchmarks/{subject}")
    conda:
        ENVIRONMENT
    threads: STUDY.compute.measuring_threads
    resources:
        predicted_s=seconds(cost.benchmarks(STUDY)),
        runtime=minutes(cost.benchmarks(STUDY)),
        mem_mb=memory(cost.benchmarks(STUDY)),
        disk_mb=10,
        gpu=1,
    params:
        study=take(
            STUDY,
            "seed",
            "backbone.system_prompt",
            "benchmarks.max_new_tokens",
            "evaluation",
            "compute",
        ),
        benchmarks=lambda wildcards: benchmarks_of(wildcards.subject),
    message:
        "Asking {wildcards.subject} the benchmark items"
    script:
        "../scripts/score_items.py"


rule score_tables:
    """Scores, and paired differences to the aligned backbone, with intervals."""
    input:
        expand(results(artefacts.BENCHMARK_ITEMS), subject=ALL_SUBJECTS),
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
        **ROUTINE,
    params:
        study=take(STUDY, "seed", "statistics"),
    message:
        "Summarising benchmark scores"
    script:
        "../scripts/score_tables.py"
