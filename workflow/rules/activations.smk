"""Activations: the residual stream of every layer while a subject reads the probe sets."""


rule capture_activations:
    """Run one subject on its probe sets and store every layer."""
    input:
        language_model=language_model(),
        model=subject_model,
        features=results(artefacts.FEATURES),
        probes=lambda wildcards: expand(
            results(artefacts.PROBE), probe=probes_of(wildcards.subject)
        ),
    output:
        directory(results(artefacts.ACTIVATIONS)),
    log:
        log_of("activations/{subject}"),
    benchmark:
        timing_of("activations/{subject}")
    conda:
        ENVIRONMENT
    threads: STUDY.compute.measuring_threads
    resources:
        predicted_s=seconds(cost.activations(STUDY)),
        runtime=minutes(cost.activations(STUDY)),
        mem_mb=memory(cost.activations(STUDY)),
        disk_mb=round(STUDY.probes.items * 9 * len(STUDY.layers) * 4096 * 4 / 1e6) + 10,
        gpu=1,
    params:
        study=take(
            STUDY,
            "seed",
            "backbone.system_prompt",
            "activations",
            "evaluation",
            "compute",
        ),
        probes=lambda wildcards: probes_of(wildcards.subject),
    message:
        "Reading the activations of {wildcards.subject}"
    script:
        "../scripts/activations.py"
