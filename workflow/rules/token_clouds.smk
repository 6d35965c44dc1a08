"""Token clouds: one cloud per prompt, where the study asks for them."""

if STUDY.token_clouds is not None:

    rule token_clouds:
        """Run one subject on single prompts and measure the cloud of each one's tokens."""
        input:
            language_model=language_model(),
            model=subject_model,
            features=features_for,
            probes=probe_tables_of,
        output:
            results(artefacts.TOKEN_CLOUDS),
        log:
            log_of("token_clouds/{subject}"),
        benchmark:
            timing_of("token_clouds/{subject}")
        conda:
            ENVIRONMENT
        threads: STUDY.compute.measuring_threads
        resources:
            **asked("token_clouds"),
        params:
            **told(
                "token_clouds.py",
                "seed",
                *READ_BY_CONVERSATIONS,
                "token_clouds",
                "evaluation.attention",
                *MEASURED_ON,
            ),
        message:
            "Measuring the token clouds of {wildcards.subject}"
        script:
            "../scripts/token_clouds.py"

    rule token_cloud_tables:
        """Means over prompts with intervals, and the correlation with the prompts' loss."""
        input:
            clouds=expand(results(artefacts.TOKEN_CLOUDS), subject=ALL_SUBJECTS),
        output:
            **{
                name: results(table)
                for name, table in artefacts.OPTIONAL_TABLES["token_clouds"].items()
            },
        log:
            log_of("token_cloud_tables"),
        benchmark:
            timing_of("token_cloud_tables")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("token_cloud_tables"),
        params:
            **told("token_cloud_tables.py", *READ_BY_INTERVALS),
        message:
            "Summarising the token clouds of all subjects"
        script:
            "../scripts/token_cloud_tables.py"
