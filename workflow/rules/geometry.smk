"""Geometry: intrinsic dimension, agreement of images and words, and change, layer by layer."""


rule intrinsic_dimension:
    """TwoNN and GRIDE intrinsic dimension of one subject's activations."""
    input:
        activations=activations_of,
    output:
        results(artefacts.INTRINSIC_DIMENSION),
    log:
        log_of("intrinsic_dimension/{subject}"),
    benchmark:
        timing_of("intrinsic_dimension/{subject}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("intrinsic_dimension"),
    params:
        **told(
            "intrinsic_dimension.py",
            "activations.streams",
            "geometry.two_nn_fraction",
            "geometry.gride_range_max",
            "geometry.metric",
            "statistics.level",
        ),
    message:
        "Measuring the intrinsic dimension of {wildcards.subject}"
    script:
        "../scripts/intrinsic_dimension.py"


rule cross_modal:
    """How far images and their words are represented alike."""
    input:
        activations=activations_of,
        probe=results(artefacts.PROBE).format(probe="pair_texts"),
    output:
        results(artefacts.CROSS_MODAL),
    log:
        log_of("cross_modal/{subject}"),
    benchmark:
        timing_of("cross_modal/{subject}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("cross_modal"),
    params:
        **told(
            "cross_modal.py",
            "seed",
            "activations.streams",
            "geometry.k",
            "geometry.metric",
            "geometry.resamples",
            "statistics.level",
        ),
    message:
        "Comparing images and words in {wildcards.subject}"
    script:
        "../scripts/cross_modal.py"


rule change:
    """How the representations of a tuned subject differ from the aligned backbone's."""
    input:
        activations=activations_of,
        reference=expand(
            results(artefacts.ACTIVATIONS_PROBE),
            subject="aligned",
            probe=STUDY.probes.sets,
        ),
    output:
        results(artefacts.CHANGE),
    log:
        log_of("change/{subject}"),
    benchmark:
        timing_of("change/{subject}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("change"),
    params:
        **told(
            "change.py",
            "seed",
            "activations.streams",
            "geometry.k",
            "geometry.metric",
            "geometry.resamples",
            "statistics.level",
        ),
    message:
        "Measuring the change of {wildcards.subject}"
    script:
        "../scripts/change.py"


rule weight_change:
    """How far tuning moved the weights of every block."""
    input:
        language_model=language_model(),
        tuned=results(artefacts.SUBJECT_MODEL),
    output:
        results(artefacts.WEIGHT_CHANGE),
    log:
        log_of("weight_change/{subject}"),
    benchmark:
        timing_of("weight_change/{subject}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("weight_change"),
    params:
        **told("weight_change.py"),
    message:
        "Measuring the weight change of {wildcards.subject}"
    script:
        "../scripts/weight_change.py"


rule geometry_tables:
    """Put the geometry tables of all subjects together."""
    input:
        intrinsic_dimension=expand(
            results(artefacts.INTRINSIC_DIMENSION), subject=ALL_SUBJECTS
        ),
        cross_modal=expand(results(artefacts.CROSS_MODAL), subject=MEASURED),
        change=expand(results(artefacts.CHANGE), subject=TUNED),
        weight_change=expand(results(artefacts.WEIGHT_CHANGE), subject=TUNED),
    output:
        intrinsic_dimension=results(artefacts.TABLES["intrinsic_dimension"]),
        cross_modal=results(artefacts.TABLES["cross_modal"]),
        change=results(artefacts.TABLES["change"]),
        weight_change=results(artefacts.TABLES["weight_change"]),
    log:
        log_of("geometry_tables"),
    benchmark:
        timing_of("geometry_tables")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("geometry_tables"),
    params:
        **told("concatenate.py"),
    message:
        "Collecting the geometry tables"
    script:
        "../scripts/concatenate.py"
