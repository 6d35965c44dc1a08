"""Patching: blocks of a tuned variant in the aligned backbone, and the other way round."""


rule patching_sweep:
    """Score every window of blocks in both directions, item by item."""
    input:
        language_model=language_model(),
        aligned=results(artefacts.ALIGNED),
        tuned=results(artefacts.SUBJECT_MODEL),
        features=results(artefacts.FEATURES),
        benchmark=results(artefacts.BENCHMARK).format(benchmark=patched_task()),
    output:
        results(artefacts.PATCHING),
    log:
        log_of("patching/{subject}"),
    benchmark:
        timing_of("patching/{subject}")
    conda:
        ENVIRONMENT
    threads: STUDY.compute.measuring_threads
    resources:
        **asked("patching_sweep"),
    params:
        **told(
            "patching.py",
            "seed",
            *READ_BY_CONVERSATIONS,
            "patching",
            "benchmarks.max_new_tokens",
            "evaluation",
            *MEASURED_ON,
        ),
        **answers_when_patched(),
    message:
        "Patching blocks between the aligned backbone and {wildcards.subject}"
    script:
        "../scripts/patching.py"


rule recovery_table:
    """Recovery of every window, with its interval."""
    input:
        expand(results(artefacts.PATCHING), subject=PATCHED),
    output:
        results(artefacts.TABLES["recovery"]),
    log:
        log_of("recovery_table"),
    benchmark:
        timing_of("recovery_table")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("recovery_table"),
    params:
        **told("recovery.py", "seed", "statistics"),
    message:
        "Summarising recovery over windows"
    script:
        "../scripts/recovery.py"
