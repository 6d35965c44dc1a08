"""Geometry: intrinsic dimension, agreement of images and words, and change, layer by layer."""


rule intrinsic_dimension:
    """TwoNN and GRIDE intrinsic dimension of one subject's activations."""
    input:
        activations=results(artefacts.ACTIVATIONS),
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
        predicted_s=20,
        runtime=minutes(cost.Cost(60, 0)),
        mem_mb=memory(LIGHT),
        disk_mb=10,
        gpu=0,
    params:
        study=take(STUDY, "activations.streams", "geometry", "statistics.level"),
        probes=lambda wildcards: probes_of(wildcards.subject),
    message:
        "Measuring the intrinsic dimension of {wildcards.subject}"
    script:
        "../scripts/intrinsic_dimension.py"


rule cross_modal:
    """How far images and their words are represented alike."""
    input:
        activations=results(artefacts.ACTIVATIONS),
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
        predicted_s=30,
        runtime=minutes(cost.Cost(60, 0)),
        mem_mb=memory(LIGHT),
        disk_mb=10,
        gpu=0,
    params:
        study=take(STUDY, "seed", "activations.streams", "geometry", "statistics.level"),
    message:
        "Comparing images and words in {wildcards.subject}"
    script:
        "../scripts/cross_modal.py"


rule change:
    """How the representations of a tuned subject differ from the aligned backbone's."""
    input:
        activations=results(artefacts.ACTIVATIONS),
        reference=results(artefacts.ACTIVATIONS).format(subject="aligned"),
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
        predicted_s=30,
        runtime=minutes(cost.Cost(60, 0)),
        mem_mb=memory(LIGHT),
        disk_mb=10,
        gpu=0,
    params:
        study=take(STUDY, "seed", "activations.streams", "geometry", "statistics.level"),
        probes=list(PROBES),
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
        predicted_s=12,
        runtime=minutes(cost.Cost(60, 0)),
        mem_mb=memory(cost.Cost(0, cost.LOAD_MB + cost.parameters(STUDY) * 12 / 1e6)),
        disk_mb=10,
        gpu=0,
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
        change=expand(results(artefacts.CHANGE), subject=STUDY.tuned_subjects),
        weight_change=expand(
            results(artefacts.WEIGHT_CHANGE), subject=STUDY.tuned_subjects
        ),
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
        **ROUTINE,
    message:
        "Collecting the geometry tables"
    script:
        "../scripts/concatenate.py"
