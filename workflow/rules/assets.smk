"""Assets: pinned packages fetched with the ordinary clients, and weights converted once.

They live in the cache that the study names (`assets.cache`), shared between studies and users.
"""


localrules:
    fetch_package,
    fetch_model,
    fetch_pictures,
    fetch_conversations,


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


def hub_models():
    """Models of the hub by the name of their folder: what of the study they are.

    A whole released model serves a variant as well as the connector that is taken from it.
    """
    connector = STUDY.align.released
    found = {}
    if connector is not None and connector.source == "hub":
        found[released.connector_folder(STUDY, Path(CACHE)).name] = CONNECTOR
    parts = {f"{VARIANT}{name}": STUDY.variants[name].released for name in RELEASED}
    for name in ("language_model", "vision_encoder"):
        parts[name] = getattr(STUDY.backbone, name)
    return found | {
        Path(checkpoint(part)).name: name
        for name, part in parts.items()
        if part.source == "hub"
    }


def read_by_fetching(part):
    """What fetching a model of the hub reads: a released one is compared with the backbone."""
    if part in ("language_model", "vision_encoder"):
        return [f"backbone.{part}"]
    compared = [f"backbone.{key}" for key in ("language_model", "vision_encoder")]
    return [
        part if part.startswith(VARIANT) else "align",
        *compared,
        "backbone.connector",
    ]


HUB = hub_models()


rule fetch_model:
    """Fetch a model of the hub at its pinned commit, check it, and turn pickles to safetensors."""
    output:
        directory(f"{CACHE}/models/{{model}}"),
    log:
        log_of("fetch_model/{model}"),
    benchmark:
        timing_of("fetch_model/{model}")
    wildcard_constraints:
        model="|".join(map(re.escape, HUB)) or "none",
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("fetch_model"),
    params:
        study=lambda wildcards: take(STUDY, *read_by_fetching(HUB[wildcards.model])),
        code=code_of("fetch_model.py"),
        part=lambda wildcards: HUB[wildcards.model],
    message:
        "Fetching the model {wildcards.model}"
    script:
        "../scripts/fetch_model.py"


# Archives of pictures and conversations of the hub by the name of their folder in the cache: the
# stage that reads them first, and the folder that an archive's pictures belong to.
OF_THE_HUB = {
    stage: data
    for stage in ("align", "tuning")
    if isinstance(data := getattr(STUDY, stage).data, HubConversations)
}
ARCHIVES, CONVERSATIONS = {}, {}
for stage, data in OF_THE_HUB.items():
    CONVERSATIONS.setdefault(
        elsewhere.conversations_folder(data, Path(CACHE)).name, stage
    )
    for folder, pictures in data.pictures.items():
        if pictures.path is None:
            name = elsewhere.archive_folder(data, pictures, Path(CACHE)).name
            ARCHIVES.setdefault(name, (stage, folder))


rule fetch_pictures:
    """Fetch an archive of pictures, compare its digest, and unpack it safely."""
    output:
        f"{CACHE}/pictures/{{archive}}/{elsewhere.PICTURES_MARKER}",
    log:
        log_of("fetch_pictures/{archive}"),
    benchmark:
        timing_of("fetch_pictures/{archive}")
    wildcard_constraints:
        archive="|".join(map(re.escape, ARCHIVES)) or "none",
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("fetch_pictures"),
    params:
        study=lambda wildcards: take(STUDY, f"{ARCHIVES[wildcards.archive][0]}.data"),
        code=code_of("fetch_pictures.py"),
        stage=lambda wildcards: ARCHIVES[wildcards.archive][0],
        folder=lambda wildcards: ARCHIVES[wildcards.archive][1],
        cache=CACHE,
    message:
        "Fetching the pictures {wildcards.archive}"
    script:
        "../scripts/fetch_pictures.py"


rule fetch_conversations:
    """Fetch the conversations of a stage at their pinned commit, and link their pictures."""
    input:
        lambda wildcards: archives_of(CONVERSATIONS[wildcards.conversations]),
    output:
        f"{CACHE}/conversations/{{conversations}}/{elsewhere.CONVERSATIONS_MARKER}",
    log:
        log_of("fetch_conversations/{conversations}"),
    benchmark:
        timing_of("fetch_conversations/{conversations}")
    wildcard_constraints:
        conversations="|".join(map(re.escape, CONVERSATIONS)) or "none",
    priority: FIRST
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **asked("fetch_conversations"),
    params:
        study=lambda wildcards: take(
            STUDY, f"{CONVERSATIONS[wildcards.conversations]}.data"
        ),
        code=code_of("fetch_conversations.py"),
        stage=lambda wildcards: CONVERSATIONS[wildcards.conversations],
        cache=CACHE,
    message:
        "Fetching the conversations {wildcards.conversations}"
    script:
        "../scripts/fetch_conversations.py"


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
