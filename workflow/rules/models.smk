"""Models: stage 1 (only the connector learns) and stage 2 (every variant, every seed)."""


rule align:
    """Stage 1, feature alignment: only the connector learns."""
    input:
        language_model=language_model(),
        conversations=results(artefacts.ALIGN),
        features=results(artefacts.FEATURES),
    output:
        directory(results(artefacts.ALIGNED)),
    log:
        log_of("align"),
    benchmark:
        timing_of("align")
    conda:
        ENVIRONMENT
    threads: STUDY.compute.training_threads
    resources:
        predicted_s=seconds(cost.align(STUDY)),
        runtime=minutes(cost.align(STUDY)),
        mem_mb=memory(cost.align(STUDY)),
        disk_mb=100,
        gpu=1,
    params:
        study=take(STUDY, "seed", "backbone", "align", "compute"),
    message:
        "Aligning features: the connector learns, {STUDY.align.steps} steps"
    script:
        "../scripts/align.py"


rule tune:
    """Stage 2, visual instruction tuning of one variant and seed."""
    input:
        language_model=language_model(),
        aligned=results(artefacts.ALIGNED),
        conversations=results(artefacts.INSTRUCT),
        features=results(artefacts.FEATURES),
    output:
        directory(results(artefacts.TUNED)),
    log:
        log_of("tune/{variant}/seed-{seed}"),
    benchmark:
        timing_of("tune/{variant}/seed-{seed}")
    conda:
        ENVIRONMENT
    threads: STUDY.compute.training_threads
    resources:
        predicted_s=seconds(cost.tune(STUDY)),
        runtime=minutes(cost.tune(STUDY)),
        mem_mb=memory(cost.tune(STUDY)),
        disk_mb=round(cost.parameters(STUDY) * 4 / 1e6) + 100,
        gpu=1,
    params:
        study=lambda wildcards: take(
            STUDY,
            "seed",
            "backbone",
            "tuning",
            f"variants.{wildcards.variant}",
            "compute",
        ),
    message:
        "Tuning the variant {wildcards.variant}, seed {wildcards.seed}, {STUDY.tuning.steps} steps"
    script:
        "../scripts/tune.py"
