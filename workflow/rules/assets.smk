"""Assets: pinned packages fetched with the ordinary clients, and weights converted once.

They live in the cache that the study names (`assets.cache`), shared between studies and users.
"""


localrules:
    fetch_package,
    fetch_model,
    fetch_pictures,
    fetch_conversations,
    fetch_questions,


rule fetch_package:
    """Fetch one pinned package, check its SHA-256 and unpack it safely."""
    output:
        f"{CACHE}/packages/{{package}}/{PROVENANCE}",
    log:
        log_of("fetch_package/{package}"),
    benchmark:
        timing_of("fetch_package/{package}")
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("fetch_package"),
    params:
        **told("fetch_package.py"),
        key=lambda wildcards: PACKAGE_KEYS[wildcards.package],
        cache=lambda wildcards, output: str(Path(output[0]).parents[2]),
    message:
        "Fetching the package {wildcards.package}"
    script:
        "../scripts/fetch_package.py"


rule fetch_model:
    """Fetch a model of the hub at its pinned commit, check it, and turn pickles to safetensors."""
    output:
        directory(f"{CACHE}/models/{{model}}"),
    log:
        log_of("fetch_model/{model}"),
    benchmark:
        timing_of("fetch_model/{model}")
    wildcard_constraints:
        model=one_of(HUB),
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("fetch_model"),
    params:
        study=lambda wildcards: take(
            STUDY, *wanted.read_by_fetching(HUB[wildcards.model])
        ),
        code=code_of("fetch_model.py"),
        part=lambda wildcards: HUB[wildcards.model],
    message:
        "Fetching the model {wildcards.model}"
    script:
        "../scripts/fetch_model.py"


rule fetch_pictures:
    """Fetch an archive of pictures, compare its digest, and unpack it safely."""
    output:
        f"{CACHE}/pictures/{{archive}}/{elsewhere.PICTURES_MARKER}",
    log:
        log_of("fetch_pictures/{archive}"),
    benchmark:
        timing_of("fetch_pictures/{archive}")
    wildcard_constraints:
        archive=one_of(HUB_DATA.archives),
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("fetch_pictures"),
    params:
        study=lambda wildcards: take(
            STUDY,
            *wanted.read_by_fetching_pictures(HUB_DATA.archives[wildcards.archive][0]),
            estimates=True,
        ),
        code=code_of("fetch_pictures.py"),
        stage=lambda wildcards: HUB_DATA.archives[wildcards.archive][0],
        folder=lambda wildcards: HUB_DATA.archives[wildcards.archive][1],
        cache=lambda wildcards, output: str(Path(output[0]).parents[2]),
    message:
        "Fetching the pictures {wildcards.archive}"
    script:
        "../scripts/fetch_pictures.py"


rule fetch_conversations:
    """Fetch the conversations of a stage at their pinned commit, and link their pictures."""
    input:
        lambda wildcards: archives_of(HUB_DATA.conversations[wildcards.conversations]),
    output:
        f"{CACHE}/conversations/{{conversations}}/{elsewhere.CONVERSATIONS_MARKER}",
    log:
        log_of("fetch_conversations/{conversations}"),
    benchmark:
        timing_of("fetch_conversations/{conversations}")
    wildcard_constraints:
        conversations=one_of(HUB_DATA.conversations),
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("fetch_conversations"),
    params:
        study=lambda wildcards: take(
            STUDY,
            f"{HUB_DATA.conversations[wildcards.conversations]}.data",
            estimates=True,
        ),
        code=code_of("fetch_conversations.py"),
        stage=lambda wildcards: HUB_DATA.conversations[wildcards.conversations],
        cache=lambda wildcards, output: str(Path(output[0]).parents[2]),
    message:
        "Fetching the conversations {wildcards.conversations}"
    script:
        "../scripts/fetch_conversations.py"


rule fetch_questions:
    """Fetch the files of a question set at their pinned commit."""
    output:
        f"{CACHE}/questions/{{questions}}/{question_sources.QUESTIONS_MARKER}",
    log:
        log_of("fetch_questions/{questions}"),
    benchmark:
        timing_of("fetch_questions/{questions}")
    wildcard_constraints:
        questions=one_of(HUB_DATA.questions),
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("fetch_questions"),
    params:
        study=lambda wildcards: take(
            STUDY,
            f"questions.{HUB_DATA.questions[wildcards.questions]}",
            estimates=True,
        ),
        code=code_of("fetch_questions.py"),
        questions=lambda wildcards: HUB_DATA.questions[wildcards.questions],
        cache=lambda wildcards, output: str(Path(output[0]).parents[2]),
    message:
        "Fetching the questions {wildcards.questions}"
    script:
        "../scripts/fetch_questions.py"


if isinstance(STUDY.backbone.language_model, PackagedLanguageModel):
    PACKAGED = registry.LANGUAGE_MODELS[STUDY.backbone.language_model.name]

    rule convert_language_model:
        """Convert the packaged language model to safetensors, once for all studies."""
        input:
            package_marker(PACKAGED.package),
        output:
            directory(language_model()),
        log:
            log_of("convert_language_model"),
        benchmark:
            timing_of("convert_language_model")
        priority: FIRST
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("convert_language_model"),
        params:
            **told("convert_language_model.py", member=PACKAGED.member),
        message:
            "Converting {STUDY.backbone.language_model.name} to safetensors"
        script:
            "../scripts/convert_language_model.py"


if STUDY.backbone.language_model.source == "random":

    rule make_random_language_model:
        """Write the tiny random language model of a test study."""
        input:
            results(artefacts.ALIGN),
            results(artefacts.INSTRUCT),
        output:
            directory(language_model()),
        log:
            log_of("make_random_language_model"),
        benchmark:
            timing_of("make_random_language_model")
        priority: FIRST
        conda:
            ENVIRONMENT
        threads: 1
        resources:
            **asked("make_random_language_model"),
        params:
            **told("make_random_language_model.py", "seed", "backbone.language_model"),
        message:
            "Making a tiny random language model (a test study)"
        script:
            "../scripts/make_random_language_model.py"
