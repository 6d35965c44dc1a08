"""Models: stage 1 (only the connector learns) and stage 2 (every variant, every seed)."""


rule align:
    """Stage 1, feature alignment: only the connector learns."""
    input:
        language_model=language_model(),
        conversations=conversations_of("align"),
        features=results(artefacts.FEATURES),
        # Read where the pictures are from elsewhere.
        package=vision_weights() if STUDY.align.data else [],
        pictures=markers_of("align"),
    output:
        directory(results(artefacts.ALIGNED)),
    log:
        log_of("align"),
    benchmark:
        timing_of("align")
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: training_threads()
    resources:
        **asked("align"),
    params:
        **told(
            "align.py",
            "seed",
            "backbone.connector",
            *READ_BY_CONVERSATIONS,
            "align",
            *(PICTURES if STUDY.align.data else []),
            *TRAINED_ON,
            shared=True,
            checkpoint_seconds=STUDY.compute.checkpoint_seconds,
            tensorboard=STUDY.compute.tensorboard,
            pictures=pictures_of("align"),
        ),
    message:
        "Aligning features: the connector learns, {STUDY.align.steps} steps"
    script:
        "../scripts/align.py"


rule tune:
    """Stage 2, visual instruction tuning of one variant and seed."""
    input:
        language_model=language_model(),
        aligned=results(artefacts.ALIGNED),
        conversations=conversations_of("tuning"),
        features=results(artefacts.FEATURES),
        # Read where the vision encoder learns.
        images=lambda wildcards: pictures_to_learn(wildcards.variant),
        package=lambda wildcards: encoder_to_learn(wildcards.variant),
        pictures=markers_of("tuning"),
    output:
        directory(results(artefacts.TUNED)),
    log:
        log_of("tune/{variant}/seed-{seed}"),
    benchmark:
        timing_of("tune/{variant}/seed-{seed}")
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: training_threads()
    resources:
        **asked("tune"),
    params:
        study=lambda wildcards: take(STUDY, *read_by_tuning(wildcards.variant)),
        code=lambda wildcards: code_of("tune.py", *method_code(wildcards.variant)),
        shared=f"{CACHE}/{SHARED}",
        checkpoint_seconds=STUDY.compute.checkpoint_seconds,
        tensorboard=STUDY.compute.tensorboard,
        pictures=pictures_of("tuning"),
    message:
        "Tuning the variant {wildcards.variant}, seed {wildcards.seed}, {STUDY.tuning.steps} steps"
    script:
        "../scripts/tune.py"
