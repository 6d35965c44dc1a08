"""Data: concepts, pictures, conversations, probe sets, benchmark items; and image features."""


rule make_concepts:
    """Join names, keywords, kinds and pictures of every concept."""
    input:
        packages=picture_packages(),
    output:
        results(artefacts.CONCEPTS),
    log:
        log_of("make_concepts"),
    benchmark:
        timing_of("make_concepts")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **ROUTINE,
    params:
        study=take(STUDY, "seed", "concepts"),
        cache=lambda wildcards, input: cache_of(input.packages),
    message:
        "Choosing the concepts of the study"
    script:
        "../scripts/make_concepts.py"


rule make_images:
    """Draw every concept in every style."""
    input:
        packages=picture_packages(),
        concepts=results(artefacts.CONCEPTS),
    output:
        results(artefacts.IMAGES),
    log:
        log_of("make_images"),
    benchmark:
        timing_of("make_images")
    conda:
        ENVIRONMENT
    threads: STUDY.compute.training_threads
    resources:
        predicted_s=30,
        runtime=minutes(cost.Cost(120, 0)),
        mem_mb=memory(cost.Cost(0, 1000)),
        disk_mb=500,
        gpu=0,
    params:
        study=take(STUDY, "seed", "concepts", "compute.training_threads"),
        cache=lambda wildcards, input: cache_of(input.packages),
    message:
        "Drawing the pictures in all styles"
    script:
        "../scripts/make_images.py"


rule make_conversations:
    """Write the alignment pairs and the instruction conversations."""
    input:
        concepts=results(artefacts.CONCEPTS),
    output:
        align=results(artefacts.ALIGN),
        instruct=results(artefacts.INSTRUCT),
    log:
        log_of("make_conversations"),
    benchmark:
        timing_of("make_conversations")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **ROUTINE,
    params:
        study=take(
            STUDY,
            "seed",
            "concepts",
            "mixture",
            "benchmarks.choices",
            "align.steps",
            "align.batch_size",
            "tuning.steps",
            "tuning.batch_size",
        ),
    message:
        "Writing alignment pairs and instruction conversations"
    script:
        "../scripts/make_conversations.py"


rule make_probes:
    """Write the probe sets, whose rows pair up by item."""
    input:
        concepts=results(artefacts.CONCEPTS),
    output:
        **{probe: results(artefacts.PROBE).format(probe=probe) for probe in PROBES},
    log:
        log_of("make_probes"),
    benchmark:
        timing_of("make_probes")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **ROUTINE,
    params:
        study=take(STUDY, "seed", "concepts", "probes", "benchmarks.choices"),
    message:
        "Writing the probe sets"
    script:
        "../scripts/make_probes.py"


rule make_benchmarks:
    """Write the benchmark items of every split, with their baselines."""
    input:
        concepts=results(artefacts.CONCEPTS),
        instruct=results(artefacts.INSTRUCT),
    output:
        **{
            name: results(artefacts.BENCHMARK).format(benchmark=name)
            for name in BENCHMARKS
        },
    log:
        log_of("make_benchmarks"),
    benchmark:
        timing_of("make_benchmarks")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **ROUTINE,
    params:
        study=take(STUDY, "seed", "concepts", "benchmarks"),
    message:
        "Writing the benchmark items"
    script:
        "../scripts/make_benchmarks.py"


rule features:
    """Run the frozen vision encoder once on every picture, for all later steps."""
    input:
        images=results(artefacts.IMAGES),
        package=vision_weights(),
    output:
        results(artefacts.FEATURES),
    log:
        log_of("features"),
    benchmark:
        timing_of("features")
    conda:
        ENVIRONMENT
    threads: STUDY.compute.training_threads
    resources:
        predicted_s=seconds(cost.features(STUDY, 1800)),
        runtime=minutes(cost.features(STUDY, 1800)),
        mem_mb=memory(cost.features(STUDY, 1800)),
        disk_mb=500,
        gpu=1,
    params:
        study=take(
            STUDY,
            "seed",
            "concepts.image_size",
            "backbone.vision_encoder",
            "compute.training_threads",
            "compute.device",
        ),
    message:
        "Computing image features of the frozen vision encoder"
    script:
        "../scripts/features.py"
