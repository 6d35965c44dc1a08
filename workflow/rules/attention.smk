"""Attention: how subjects divide it between image and text, where the study asks for it."""

if STUDY.attention is not None:

    rule attention:
        """Let one subject answer visual questions, and read the attention of its answers."""
        input:
            language_model=language_model(),
            model=subject_model,
            features=results(artefacts.FEATURES),
            questions=results(artefacts.PROBE).format(probe="visual_questions"),
        output:
            results(artefacts.ATTENTION),
        log:
            log_of("attention/{subject}"),
        benchmark:
            timing_of("attention/{subject}")
        wildcard_constraints:
            subject=WITH_CONNECTOR,
        conda:
            ENVIRONMENT
        threads: STUDY.compute.measuring_threads
        resources:
            **asked("attention"),
        params:
            **told(
                "attention.py",
                "seed",
                *READ_BY_CONVERSATIONS,
                "attention",
                "evaluation.attention",
                *MEASURED_ON,
            ),
        message:
            "Reading the attention of {wildcards.subject}"
        script:
            "../scripts/attention.py"

    rule attention_tables:
        """Give the attention ratios of all subjects with intervals."""
        input:
            ratios=expand(results(artefacts.ATTENTION), subject=PICTURED),
            models=expand(results(artefacts.SUBJECT_MODEL), subject=PICTURED),
        output:
            **{
                name: results(table)
                for name, table in artefacts.OPTIONAL_TABLES["attention"].items()
            },
        log:
            log_of("attention_tables"),
        benchmark:
            timing_of("attention_tables")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("attention_tables"),
        params:
            **told("attention_tables.py", "name", "seed", "statistics"),
        message:
            "Summarising the attention of all subjects"
        script:
            "../scripts/attention_tables.py"
