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
        **asked("make_concepts"),
    params:
        **told(
            "make_concepts.py",
            "seed",
            "concepts.source",
            "concepts.kinds",
            "concepts.unseen_subgroups",
            "concepts.seen_styles",
            "concepts.unseen_style",
            "concepts.limit_per_subgroup",
            shared=True,
        ),
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
        concept_images(),
    log:
        log_of("make_images"),
    benchmark:
        timing_of("make_images")
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: STUDY.compute.training_threads
    resources:
        **asked("make_images"),
    params:
        **told(
            "make_images.py",
            "seed",
            "concepts",
            "compute.training_threads",
            shared=True,
        ),
        cache=lambda wildcards, input: cache_of(input.packages),
    message:
        "Drawing the pictures in all styles"
    script:
        "../scripts/make_images.py"


if STUDY.questions:

    rule read_questions:
        """Choose the questions of a set from elsewhere, and read their pictures."""
        input:
            questions_to_read,
        output:
            questions=results(artefacts.QUESTIONS),
            images=results(artefacts.QUESTION_IMAGES),
        log:
            log_of("read_questions/{questions}"),
        benchmark:
            timing_of("read_questions/{questions}")
        wildcard_constraints:
            questions=one_of(STUDY.questions),
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("read_questions"),
        params:
            study=lambda wildcards: take(
                STUDY, "seed", f"questions.{wildcards.questions}"
            ),
            code=code_of("read_questions.py"),
            questions=lambda wildcards: wildcards.questions,
            cache=CACHE,
        message:
            "Choosing the questions of {wildcards.questions}"
        script:
            "../scripts/read_questions.py"

    rule make_question_tasks:
        """Write the benchmark items of all question sets."""
        input:
            expand(results(artefacts.QUESTIONS), questions=STUDY.questions),
        output:
            expand(results(artefacts.BENCHMARK), benchmark=QUESTION_TASKS),
        log:
            log_of("make_question_tasks"),
        benchmark:
            timing_of("make_question_tasks")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("make_question_tasks"),
        params:
            **told("make_question_tasks.py", "questions"),
        message:
            "Writing the questions of all sets"
        script:
            "../scripts/make_question_tasks.py"


if SHOWN_QUESTIONS:

    rule join_images:
        """Put the pictures of concepts and questions into one table."""
        input:
            images_to_join(),
        output:
            results(artefacts.IMAGES),
        log:
            log_of("join_images"),
        benchmark:
            timing_of("join_images")
        priority: FIRST
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("join_images"),
        params:
            **told("join_images.py"),
        message:
            "Joining the pictures of concepts and questions"
        script:
            "../scripts/join_images.py"


if is_json("align"):

    rule import_align:
        """Turn the captions of stage 1, from elsewhere, into a table."""
        input:
            json_of("align"),
        output:
            results(artefacts.IMPORTED).format(stage="align"),
        log:
            log_of("import_align"),
        benchmark:
            timing_of("import_align")
        priority: FIRST
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("import_align"),
        params:
            **told("import_conversations.py", *published_of("align")),
            **elsewhere_of("align"),
        message:
            "Reading the conversations in {params.conversations}"
        script:
            "../scripts/import_conversations.py"


if is_json("tuning"):

    rule import_instruct:
        """Turn the conversations of stage 2, from elsewhere, into a table."""
        input:
            json_of("tuning"),
        output:
            results(artefacts.IMPORTED).format(stage="tuning"),
        log:
            log_of("import_instruct"),
        benchmark:
            timing_of("import_instruct")
        priority: FIRST
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("import_instruct"),
        params:
            **told("import_conversations.py", *published_of("tuning")),
            **elsewhere_of("tuning"),
        message:
            "Reading the conversations in {params.conversations}"
        script:
            "../scripts/import_conversations.py"


rule make_align:
    """Write the conversations of stage 1: pictures and their captions."""
    input:
        concepts=results(artefacts.CONCEPTS),
    output:
        results(artefacts.ALIGN),
    log:
        log_of("make_align"),
    benchmark:
        timing_of("make_align")
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("make_align"),
    params:
        **told(
            "make_align.py",
            "seed",
            "concepts.seen_styles",
            "concepts.kinds",
            "align.steps",
            "align.batch_size",
            shared=True,
        ),
    message:
        "Writing alignment pairs"
    script:
        "../scripts/make_align.py"


rule make_instruct:
    """Write the instruction conversations of stage 2."""
    input:
        concepts=results(artefacts.CONCEPTS),
    output:
        results(artefacts.INSTRUCT),
    log:
        log_of("make_instruct"),
    benchmark:
        timing_of("make_instruct")
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("make_instruct"),
    params:
        **told(
            "make_instruct.py",
            "seed",
            "concepts.kinds",
            "concepts.seen_styles",
            "mixture",
            "benchmarks.choices",
            "tuning.steps",
            "tuning.batch_size",
            shared=True,
        ),
    message:
        "Writing instruction conversations"
    script:
        "../scripts/make_instruct.py"


if STUDY.probes.from_ is None:

    rule make_probes:
        """Write the probe sets, whose rows pair up by item."""
        input:
            concepts=results(artefacts.CONCEPTS),
        output:
            **{
                probe: results(artefacts.PROBE).format(probe=probe)
                for probe in STUDY.probes.sets
            },
        log:
            log_of("make_probes"),
        benchmark:
            timing_of("make_probes")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("make_probes"),
        params:
            **told(
                "make_probes.py",
                "seed",
                "concepts.kinds",
                "probes.items",
                "probes.style",
                "benchmarks.choices",
                shared=True,
            ),
        message:
            "Writing the probe sets"
        script:
            "../scripts/make_probes.py"

else:

    rule make_probes:
        """Write the probe sets from a question set; their rows pair up by item."""
        input:
            questions=results(artefacts.QUESTIONS).format(questions=STUDY.probes.from_),
        output:
            **{
                probe: results(artefacts.PROBE).format(probe=probe)
                for probe in STUDY.probes.sets
            },
        log:
            log_of("make_probes"),
        benchmark:
            timing_of("make_probes")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("make_probes"),
        params:
            **told(
                "make_question_probes.py",
                "probes.items",
                "probes.from",
                f"questions.{STUDY.probes.from_}",
            ),
        message:
            "Writing the probe sets from the questions {STUDY.probes.from_}"
        script:
            "../scripts/make_question_probes.py"


if STUDY.benchmarks.tasks:

    rule make_benchmarks:
        """Write the benchmark items of every split, with their baselines."""
        input:
            concepts=results(artefacts.CONCEPTS),
            instruct=results(artefacts.INSTRUCT),
        output:
            **{
                name: results(artefacts.BENCHMARK).format(benchmark=name)
                for name in STUDY.benchmarks.tasks
            },
        log:
            log_of("make_benchmarks"),
        benchmark:
            timing_of("make_benchmarks")
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("make_benchmarks"),
        params:
            **told(
                "make_benchmarks.py",
                "seed",
                "concepts.kinds",
                "concepts.seen_styles",
                "concepts.unseen_style",
                "benchmarks.kind",
                "benchmarks.choices",
                "benchmarks.presence",
                "benchmarks.naming",
                shared=True,
            ),
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
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: STUDY.compute.training_threads
    resources:
        **asked("features"),
    params:
        **told(
            "features.py",
            "seed",
            *PICTURES,
            "compute.training_threads",
            "compute.device",
            shared=True,
        ),
    message:
        "Computing image features of the frozen vision encoder"
    script:
        "../scripts/features.py"
