"""Models: stage 1 (only the connector learns) and stage 2 (every variant, every seed).

Where a study takes a connector or a variant that others have released, nothing is trained.
"""

if STUDY.align.released is not None:

    rule take_connector:
        """Take a released connector in the place of stage 1; nothing is trained."""
        input:
            checkpoint=str(released.connector_folder(STUDY, Path(CACHE))),
        output:
            directory(results(artefacts.ALIGNED)),
        log:
            log_of("take_connector"),
        benchmark:
            timing_of("take_connector")
        priority: FIRST
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("take_connector"),
        params:
            **told(
                "take_connector.py",
                "align",
                "backbone.language_model",
                "backbone.vision_encoder",
                "backbone.connector",
            ),
        message:
            "Taking the connector of {STUDY.align.released.words}"
        script:
            "../scripts/take_connector.py"

else:

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


if RELEASED:

    rule take_released:
        """Take a released model as a subject: what differs from the base; nothing is trained."""
        input:
            language_model=language_model(),
            checkpoint=lambda wildcards: released_model(wildcards.variant),
            # Read where its vision encoder is not the study's.
            images=lambda wildcards: if_pictures(
                wildcards.variant, [results(artefacts.IMAGES)]
            ),
            package=lambda wildcards: if_pictures(wildcards.variant, vision_weights()),
        output:
            directory(results(artefacts.TUNED)),
        log:
            log_of("take_released/{variant}/seed-{seed}"),
        benchmark:
            timing_of("take_released/{variant}/seed-{seed}")
        wildcard_constraints:
            variant=one_of(RELEASED),
            seed="0",
        priority: FIRST
        conda:
            ENVIRONMENT
        threads: STUDY.compute.training_threads
        resources:
            **asked("take_released"),
        params:
            study=lambda wildcards: take(STUDY, *read_by_taking(wildcards.variant)),
            code=code_of("take_released.py"),
        message:
            "Taking the released model of the variant {wildcards.variant}"
        script:
            "../scripts/take_released.py"


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
    wildcard_constraints:
        variant=one_of(STUDY.trained_variants),
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
