"""Activations: the residual stream of every layer while a subject reads the probe sets."""


rule capture_activations:
    """Run one subject on its probe sets and store every layer."""
    input:
        language_model=language_model(),
        model=subject_model,
        features=results(artefacts.FEATURES),
        probes=expand(results(artefacts.PROBE), probe=STUDY.probes.sets),
    output:
        directory(
            expand(
                results(artefacts.ACTIVATIONS_PROBE),
                probe=STUDY.probes.sets,
                allow_missing=True,
            )
        ),
    log:
        log_of("activations/{subject}"),
    benchmark:
        timing_of("activations/{subject}")
    wildcard_constraints:
        subject=WITH_CONNECTOR,
    conda:
        ENVIRONMENT
    threads: STUDY.compute.measuring_threads
    resources:
        **asked("capture_activations"),
    params:
        **told("activations.py", *READ_BY_ACTIVATIONS, parts="probes"),
    message:
        "Reading the activations of {wildcards.subject}"
    script:
        "../scripts/activations.py"


if TEXT_PROBES:

    use rule capture_activations as capture_base_activations with:
        input:
            language_model=language_model(),
            probes=expand(results(artefacts.PROBE), probe=TEXT_PROBES),
        output:
            directory(
                expand(
                    results(artefacts.ACTIVATIONS_PROBE),
                    subject="base",
                    probe=TEXT_PROBES,
                )
            ),
        log:
            log_of("activations/base"),
        benchmark:
            timing_of("activations/base")
        resources:
            **asked("capture_activations", subject="base"),
        message:
            "Reading the activations of base"


if TEXT_PROBES and READS_TEXT:

    use rule capture_activations as capture_text_activations with:
        input:
            language_model=language_model(),
            model=subject_model,
            probes=expand(results(artefacts.PROBE), probe=TEXT_PROBES),
        output:
            directory(
                expand(
                    results(artefacts.ACTIVATIONS_PROBE),
                    probe=TEXT_PROBES,
                    allow_missing=True,
                )
            ),
        wildcard_constraints:
            subject=TEXT_ALONE,
