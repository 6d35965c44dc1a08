"""Geometry: neighbours once, then dimension, overlaps, peaks, alignment, spectrum and change."""

READ_BY_NEIGHBOURS = [
    "activations.streams",
    "geometry.neighbours",
    "geometry.metric",
    "geometry.device",
]
READ_BY_INTERVALS = ["seed", "geometry.resamples", "statistics.level"]
READ_BY_SUBSETS = [
    "seed",
    "geometry.subsamples",
    "geometry.subsample_fraction",
    "statistics.level",
]


rule find_neighbours:
    """Find the nearest neighbours of every vector of one subject, once for all metrics."""
    input:
        activations=activations_of,
    output:
        directory(
            expand(
                results(artefacts.NEIGHBOURS),
                probe=STUDY.probes.sets,
                allow_missing=True,
            )
        ),
    log:
        log_of("find_neighbours/{subject}"),
    benchmark:
        timing_of("find_neighbours/{subject}")
    wildcard_constraints:
        subject=WITH_CONNECTOR,
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("find_neighbours"),
    params:
        **told(
            "find_neighbours.py",
            *READ_BY_NEIGHBOURS,
            parts="activations",
            search_mb=STUDY.geometry.memory_mb,
        ),
    message:
        "Finding the neighbours of the vectors of {wildcards.subject}"
    script:
        "../scripts/find_neighbours.py"


if TEXT_PROBES:

    use rule find_neighbours as find_base_neighbours with:
        input:
            activations=expand(
                results(artefacts.ACTIVATIONS_PROBE), subject="base", probe=TEXT_PROBES
            ),
        output:
            directory(
                expand(
                    results(artefacts.NEIGHBOURS), subject="base", probe=TEXT_PROBES
                )
            ),
        log:
            log_of("find_neighbours/base"),
        benchmark:
            timing_of("find_neighbours/base")
        resources:
            **asked("find_neighbours", subject="base"),
        message:
            "Finding the neighbours of the vectors of base"


if TEXT_PROBES and READS_TEXT:

    use rule find_neighbours as find_text_neighbours with:
        input:
            activations=activations_of,
        output:
            directory(
                expand(
                    results(artefacts.NEIGHBOURS),
                    probe=TEXT_PROBES,
                    allow_missing=True,
                )
            ),
        wildcard_constraints:
            subject=TEXT_ALONE,


rule intrinsic_dimension:
    """Intrinsic dimension of one subject's clouds: TwoNN, GRIDE and decimation."""
    input:
        graphs=graphs_of,
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
            *READ_BY_INTERVALS,
            "activations.streams",
            "geometry.two_nn_fraction",
            "geometry.gride_range_max",
            "geometry.decimated_fewest",
            "geometry.plateau_width",
        ),
    message:
        "Measuring the intrinsic dimension of {wildcards.subject}"
    script:
        "../scripts/intrinsic_dimension.py"


rule overlap:
    """Neighbours shared with the aligned backbone, with the next layer, with the other modality."""
    input:
        graphs=graphs_of,
        reference=graphs_of_reference,
        probes=probe_tables_of,
    output:
        overlap=results(artefacts.OVERLAP),
        label_overlap=results(artefacts.LABEL_OVERLAP),
    log:
        log_of("overlap/{subject}"),
    benchmark:
        timing_of("overlap/{subject}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("overlap"),
    params:
        **told(
            "overlap.py",
            *READ_BY_INTERVALS,
            "activations.streams",
            "geometry.ks",
            "geometry.class_fractions",
        ),
    message:
        "Counting the neighbours that {wildcards.subject} shares"
    script:
        "../scripts/overlap.py"


rule cross_modal:
    """How far images and their words are represented alike."""
    input:
        activations=activations_of,
        graphs=graphs_of,
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
            *READ_BY_INTERVALS,
            "activations.streams",
            "geometry.k",
            "geometry.metric",
        ),
    message:
        "Comparing images and words in {wildcards.subject}"
    script:
        "../scripts/cross_modal.py"


rule change:
    """How the representations of a tuned subject differ from the aligned backbone's."""
    input:
        activations=activations_of,
        reference=activations_of_reference,
        graphs=graphs_of,
        reference_graphs=graphs_of_reference,
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
            *READ_BY_INTERVALS,
            "activations.streams",
            "geometry.k",
            "geometry.metric",
        ),
    message:
        "Measuring the change of {wildcards.subject}"
    script:
        "../scripts/change.py"


rule weight_change:
    """How far tuning moved every matrix of every block, and in how many directions."""
    input:
        language_model=language_model(),
        tuned=results(artefacts.SUBJECT_MODEL),
    output:
        blocks=results(artefacts.WEIGHT_CHANGE),
        matrices=results(artefacts.MATRIX_CHANGE),
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


if STUDY.geometry.density is not None:

    rule pool_neighbours:
        """Neighbours in the clouds of images and of their words, taken together."""
        input:
            activations=activations_of,
        output:
            directory(
                expand(results(artefacts.NEIGHBOURS), probe=POOLED, allow_missing=True)
            ),
        log:
            log_of("pool_neighbours/{subject}"),
        benchmark:
            timing_of("pool_neighbours/{subject}")
        wildcard_constraints:
            subject=WITH_CONNECTOR,
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("pool_neighbours"),
        params:
            **told(
                "pool_neighbours.py",
                *READ_BY_NEIGHBOURS,
                search_mb=STUDY.geometry.memory_mb,
            ),
        message:
            "Finding the neighbours of images among words in {wildcards.subject}"
        script:
            "../scripts/pool_neighbours.py"

    rule density:
        """Density peaks of one subject's clouds, and which labels they follow."""
        input:
            graphs=graphs_of,
            pooled=pooled_graphs_of,
            probes=probe_tables_of,
        output:
            density=results(artefacts.DENSITY),
            merges=results(artefacts.DENSITY_MERGES),
            peaks=results(artefacts.DENSITY_PEAKS),
        log:
            log_of("density/{subject}"),
        benchmark:
            timing_of("density/{subject}")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("density"),
        params:
            **told(
                "density.py",
                *READ_BY_SUBSETS,
                "activations.streams",
                "geometry.density",
            ),
        message:
            "Finding the density peaks of {wildcards.subject}"
        script:
            "../scripts/density.py"


if STUDY.geometry.alignment is not None:

    rule alignment:
        """SVCCA, modality gap, information imbalance and Id-Cor of one subject's clouds."""
        input:
            activations=activations_of,
            reference=activations_of_reference,
            graphs=graphs_of,
            reference_graphs=graphs_of_reference,
        output:
            results(artefacts.ALIGNMENT),
        log:
            log_of("alignment/{subject}"),
        benchmark:
            timing_of("alignment/{subject}")
        wildcard_constraints:
            subject=WITH_CONNECTOR,
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("alignment"),
        params:
            **told(
                "alignment.py",
                *READ_BY_SUBSETS,
                "activations.streams",
                "geometry.two_nn_fraction",
                "geometry.metric",
                "geometry.alignment",
            ),
        message:
            "Measuring how the clouds of {wildcards.subject} are aligned"
        script:
            "../scripts/alignment.py"


if STUDY.geometry.spectrum is not None:

    rule spectrum:
        """Spectrum, anisotropy and massive activations of one subject's clouds."""
        input:
            activations=activations_of,
        output:
            spectrum=results(artefacts.SPECTRUM),
            massive=results(artefacts.MASSIVE),
        log:
            log_of("spectrum/{subject}"),
        benchmark:
            timing_of("spectrum/{subject}")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("spectrum"),
        params:
            **told(
                "spectrum.py",
                *READ_BY_SUBSETS,
                "activations.streams",
                "geometry.spectrum",
            ),
        message:
            "Measuring the spectrum of {wildcards.subject}"
        script:
            "../scripts/spectrum.py"


if STUDY.linear_probes is not None:

    rule linear_probes:
        """Read labels off every layer, within a modality and from one to the other."""
        input:
            activations=activations_of,
            probe=results(artefacts.PROBE).format(probe="pair_texts"),
        output:
            results(artefacts.LINEAR_PROBES),
        log:
            log_of("linear_probes/{subject}"),
        benchmark:
            timing_of("linear_probes/{subject}")
        wildcard_constraints:
            subject=WITH_CONNECTOR,
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("linear_probes"),
        params:
            **told(
                "linear_probes.py",
                *READ_BY_INTERVALS,
                "activations.streams",
                "linear_probes",
            ),
        message:
            "Fitting linear probes to the layers of {wildcards.subject}"
        script:
            "../scripts/linear_probes.py"


rule geometry_tables:
    """Put the geometry tables of all subjects together."""
    input:
        **{
            table: expand(results(pattern), subject=subjects)
            for table, (pattern, subjects) in GEOMETRY_PARTS.items()
        },
    output:
        **{table: results(tables_of(STUDY)[table]) for table in GEOMETRY_PARTS},
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


rule concentration:
    """Where in depth the change of every variant concentrates."""
    input:
        change=results(artefacts.TABLES["change"]),
        matrices=results(artefacts.TABLES["matrix_change"]),
    output:
        results(artefacts.TABLES["concentration"]),
    log:
        log_of("concentration"),
    benchmark:
        timing_of("concentration")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("concentration"),
    params:
        **told(
            "concentration.py",
            "geometry.concentration_share",
            "statistics.level",
        ),
    message:
        "Finding where the change concentrates"
    script:
        "../scripts/concentration.py"
