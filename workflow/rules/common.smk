"""The study of this run, its paths, and what every rule shares."""

import contextlib
import functools
import inspect
import io
import os
import re

from layersight import artefacts, cost
from layersight.cluster import listing, partitions, placing
from layersight.data import elsewhere, wanted
from layersight.data.packages import PACKAGES, PROVENANCE, cache_folder, package_folder
from layersight.errors import UserError
from layersight.geometry.pairs import pools_of
from layersight.models import backbones, registry, released
from layersight.plan import write_plan
from layersight.provenance.attempt import SHARED, sweep_locks
from layersight.provenance.code import CodeIndex
from layersight.provenance.failures import has_failed, left_out
from layersight.provenance.lock import RunLock
from layersight.provenance.steps import describe
from layersight.questions import sources as question_sources
from layersight.reporting.figure_names import figure_names, tables_of
from layersight.slices import findings, take
from layersight.storage import scratch
from layersight.study import (
    HubConversations,
    PackagedLanguageModel,
    PackagedVisionEncoder,
)
from layersight.study_file import load_study
from snakemake.cli import parse_args
from snakemake.exceptions import WorkflowError


def chosen_study():
    """Load the study that the configuration names, with the other keys merged over it."""
    overrides = {key: value for key, value in config.items() if key != "study"}
    name = config.get("study")
    if not isinstance(name, str):
        raise WorkflowError(
            "config/config.yaml: study: must be the name of a file in config/studies"
        )
    try:
        study = load_study(Path("config/studies") / f"{name}.yaml", overrides)
    except UserError as error:
        raise WorkflowError(str(error))
    closed = backbones.gated_without_token(study.model_dump())
    if closed is not None:
        raise WorkflowError(f"config/studies/{name}.yaml: {closed}")
    return study


STUDY = chosen_study()
CACHE = str(cache_folder(STUDY))
PACKAGE_KEYS = {package_folder(key, Path(CACHE)).name: key for key in PACKAGES}
ENVIRONMENT = str(Path(workflow.basedir) / "envs/layersight.yaml")
SCRIPTS = Path(workflow.basedir) / "workflow/scripts"
CODE = CodeIndex()
HUB = wanted.hub_models(STUDY, Path(CACHE))
HUB_DATA = wanted.hub_data(STUDY, Path(CACHE))
TEXT_PROBES = [s for s in STUDY.probes.sets if s in ("text_questions", "pair_texts")]
POOLED = [pool.name for pool in pools_of(STUDY.probes.sets, STUDY.activations.stored)]
RELEASED = [name for name, own in STUDY.variants.items() if own.released is not None]
READS_TEXT = [name for name, own in STUDY.variants.items() if not own.reads_pictures]
TEXT_BENCHMARKS = STUDY.text_tasks
QUESTION_TASKS = STUDY.question_tasks
SHOWN_QUESTIONS = [
    name for name, own in STUDY.questions.items() if "image" in own.inputs
]


# Everything else waits for training: what leads to it starts before what only measures.
FIRST = 10
TRAINED_ON = [
    "compute.training_threads",
    "compute.device",
    "compute.precision",
    "compute.devices",
    "compute.parallel",
]
MEASURED_ON = ["compute.measuring_threads", "compute.device", "compute.precision"]
PICTURES = ["backbone.vision_encoder", "backbone.image_shape", "concepts.image_size"]
READ_BY_CONVERSATIONS = ["backbone.system_prompt", "backbone.template"]
READ_BY_ACTIVATIONS = [
    "seed",
    *READ_BY_CONVERSATIONS,
    "activations",
    "evaluation.batch_size",
    "evaluation.attention",
    *MEASURED_ON,
]
READ_BY_BENCHMARKS = [
    "seed",
    *READ_BY_CONVERSATIONS,
    "benchmarks.max_new_tokens",
    "evaluation",
    *MEASURED_ON,
]
READ_BY_REPORT = findings()
READ_BY_FIGURES = [
    "variants",
    "backbone.language_model",
    "seeds",
    "statistics.level",
    "activations.streams",
    "geometry.concentration_share",
    *artefacts.OPTIONAL_TABLES,
    "benchmarks.tasks",
    "patching.sweeps",
]


def one_of(names):
    """A pattern of exactly these names; of none, one that no name has."""
    return "|".join(map(re.escape, names)) or r"(?!)"


TEXT_ALONE = one_of(f"{name}/seed-0" for name in READS_TEXT)
WITH_CONNECTOR = r"aligned|[a-z0-9._-]+/seed-\d+"
if READS_TEXT:
    WITH_CONNECTOR = one_of(
        ["aligned"]
        + [
            subject
            for subject in STUDY.tuned_subjects
            if subject.partition("/")[0] not in READS_TEXT
        ]
    )


wildcard_constraints:
    subject=r"base|aligned|[a-z0-9._-]+/seed-\d+",
    variant=r"[a-z0-9._-]+",
    seed=r"\d+",
    package=r"[a-z0-9.-]+",


def told(script, *paths, also=(), shared=False, estimates=False, **more):
    """What all rules pass on: a slice of the study, and the library code that a script runs.

    `shared` steps take their result from the store between studies where it has one.
    """
    return {
        "study": take(STUDY, *paths, estimates=estimates),
        # Read for a job alone: a job on a cluster need not parse what others run.
        "code": lambda wildcards: code_of(script, *also),
        **({"shared": f"{CACHE}/{SHARED}"} if shared else {}),
        **more,
    }


def code_of(script, *also):
    """The code that a script runs, with modules that the study chooses by name."""
    return {
        "script": script,
        "also": list(also),
        "digest": CODE.code(SCRIPTS / script, also).digest,
    }


def results(pattern):
    """A path below results/<study>/; wildcards stay."""
    return f"{artefacts.RESULTS.format(study=STUDY.name)}/{pattern}"


def log_of(step):
    return results(f"{artefacts.LOGS}/{step}.log")


def timing_of(step):
    return results(f"{artefacts.TIMINGS}/{step}.tsv")


def package_marker(key):
    """The file that appears last when a package has been fetched, checked and unpacked."""
    return str(package_folder(key, Path(CACHE)) / PROVENANCE)


def language_model():
    """Folder of the base language model."""
    model = STUDY.backbone.language_model
    if isinstance(model, PackagedLanguageModel):
        return f"{CACHE}/models/{model.name}"
    if model.source == "random":
        return results(artefacts.RANDOM_LANGUAGE_MODEL)
    return checkpoint(model)


def checkpoint(part):
    """Folder of a language model or vision encoder from the hub or a folder."""
    return str(backbones.checkpoint_folder(part.model_dump(), Path(CACHE)))


def subject_model(wildcards):
    """Folders that a subject's weights come from, besides the base language model."""
    if wildcards.subject == "base":
        return []
    if wildcards.subject == "aligned":
        return [results(artefacts.ALIGNED)]
    return [results(artefacts.SUBJECT_MODEL).format(subject=wildcards.subject)]


def picture_packages():
    """Packages that pictures and words come from; none for synthetic drawings."""
    if STUDY.concepts.source == "synthetic":
        return []
    keys = ["openmoji", "emoji-datasource-google", "fluentui-emoji", "emojibase-data"]
    return [package_marker(key) for key in keys]


def cache_of(markers):
    """The cache in which packages lie; none if the study needs none."""
    return str(Path(markers[0]).parents[2]) if markers else ""


def vision_weights():
    """What the vision encoder's weights come from; nothing for random ones."""
    encoder = STUDY.backbone.vision_encoder
    if encoder.source == "random":
        return []
    if not isinstance(encoder, PackagedVisionEncoder):
        return [checkpoint(encoder)]
    return [package_marker(registry.VISION_ENCODERS[encoder.name].package)]


def probes_of(subject):
    """Probe sets that a subject can read: the base language model has no connector."""
    return STUDY.probes.sets if has_connector(subject) else TEXT_PROBES


def has_connector(subject):
    """Whether a subject reads pictures."""
    return subject != "base" and subject.partition("/")[0] not in READS_TEXT


def benchmarks_of(subject):
    """Benchmarks that a subject can take: the base language model reads text only."""
    return STUDY.tasks if has_connector(subject) else TEXT_BENCHMARKS


def concept_images():
    """Where the pictures of the concepts go; those of questions join them in one table."""
    return results(artefacts.CONCEPT_IMAGES if SHOWN_QUESTIONS else artefacts.IMAGES)


def images_to_join():
    """Tables that all pictures of the study come from."""
    shown = expand(results(artefacts.QUESTION_IMAGES), questions=SHOWN_QUESTIONS)
    return [*([concept_images()] if STUDY.shows_concepts else []), *shown]


def questions_to_read(wildcards):
    """Files that a question set is read from, as far as they are there already."""
    asked = STUDY.questions[wildcards.questions]
    return question_sources.inputs_of(asked, Path(CACHE))


def answers_to(tasks):
    """Tasks of questions from elsewhere, with the longest answer of each; nothing without any."""
    asked = {task: QUESTION_TASKS[task][0] for task in tasks if task in QUESTION_TASKS}
    most = {
        task: STUDY.questions[name].max_new_tokens or STUDY.benchmarks.max_new_tokens
        for task, name in asked.items()
    }
    return {"questions": most} if most else {}


def patched_task():
    """The benchmark that patching scores."""
    split = STUDY.patching.split
    return split if split in QUESTION_TASKS else STUDY.patching.benchmark


def answers_when_patched():
    """The longest answer, where patching scores questions from elsewhere."""
    most = answers_to([patched_task()]).get("questions")
    return {"max_new_tokens": most[patched_task()]} if most else {}


METHOD_PARTS = ["Options", "apply", "quantization", "TRAINS_CONNECTOR"]


def method_code(variant):
    """What training runs of the module of a variant's method, which is chosen by its name."""
    chosen = f"layersight.tuning.methods.{STUDY.variants[variant].method}"
    return [f"{chosen}:{name}" for name in METHOD_PARTS]


def read_by_tuning(variant):
    """What training a variant reads: a rate of its own hides the one of `tuning`."""
    own = STUDY.variants[variant]
    hidden = set()
    if own.learning_rate is not None:
        hidden.add("learning_rate")
    if own.connector_learning_rate is not None:
        hidden.add("connector_learning_rate")
    tuning = [
        f"tuning.{key}" for key in type(STUDY.tuning).model_fields if key not in hidden
    ]
    return [
        "seed",
        *READ_BY_CONVERSATIONS,
        *tuning,
        f"variants.{variant}",
        *(PICTURES if own.train_vision != "none" or STUDY.tuning.data else []),
        *TRAINED_ON,
    ]


def pictures_to_learn(variant):
    """The pictures, where a variant's vision encoder learns."""
    learns = STUDY.variants[variant].train_vision != "none"
    return [results(artefacts.IMAGES)] if learns else []


def encoder_to_learn(variant):
    """What the vision encoder's weights come from, where stage 2 runs it."""
    learns = STUDY.variants[variant].train_vision != "none"
    return vision_weights() if learns or STUDY.tuning.data else []


def released_model(variant):
    """Folder of the released model that a variant is taken from."""
    return checkpoint(STUDY.variants[variant].released)


def if_pictures(variant, files):
    """What taking a released model reads if it reads pictures."""
    return files if variant not in READS_TEXT else []


def read_by_taking(variant):
    """What taking a released model reads."""
    return [
        f"variants.{variant}",
        "backbone.language_model",
        "backbone.connector",
        *PICTURES,
        "compute.training_threads",
    ]


def conversations_of(stage):
    """Conversations that a stage trains on."""
    data = getattr(STUDY, stage).data
    if data is None:
        return results({"align": artefacts.ALIGN, "tuning": artefacts.INSTRUCT}[stage])
    if data.source == "parquet":
        return data.file
    return results(artefacts.IMPORTED).format(stage=stage)


def is_json(stage):
    """Whether a stage's conversations are LLaVA's JSON, from a file or the hub."""
    data = getattr(STUDY, stage).data
    return data is not None and data.source in ("llava", "hub")


def markers_of(stage):
    """Files in the cache that tell what a stage's conversations and pictures are."""
    data = getattr(STUDY, stage).data
    if not isinstance(data, HubConversations):
        return []
    folder = elsewhere.conversations_folder(data, Path(CACHE))
    return [str(folder / elsewhere.CONVERSATIONS_MARKER), *archives_of(stage)]


def archives_of(stage):
    """What appears last when an archive of pictures of a stage has been fetched and unpacked."""
    data = getattr(STUDY, stage).data
    return [
        str(
            elsewhere.archive_folder(data, pictures, Path(CACHE))
            / elsewhere.PICTURES_MARKER
        )
        for pictures in data.pictures.values()
        if pictures.path is None
    ]


def json_of(stage):
    """What a stage's conversations are read from."""
    data = getattr(STUDY, stage).data
    return data.file if data.source == "llava" else markers_of(stage)


def pictures_of(stage):
    """Folder of the pictures of a stage's conversations from elsewhere."""
    data = getattr(STUDY, stage).data
    return None if data is None else str(elsewhere.pictures_folder(data, Path(CACHE)))


def elsewhere_of(stage):
    """Where conversations from elsewhere lie, and how many were published."""
    data = getattr(STUDY, stage).data
    return dict(
        conversations=str(elsewhere.conversations_file(data, Path(CACHE))),
        pictures=pictures_of(stage),
        published=data.rows if isinstance(data, HubConversations) else None,
    )


def published_of(stage):
    """What importing a stage's conversations reads of the study."""
    return [f"{stage}.data"] if stage in HUB_DATA.stages else []


def training_threads():
    """Cores of a training job: processes that compute on the CPU each take their threads."""
    processes = 1 if STUDY.compute.device == "cuda" else STUDY.compute.devices
    return STUDY.compute.training_threads * processes


def why_left_out(variant, seed):
    """Why a subject has no results; None unless its training failed as it would again."""
    subject = f"{variant}/seed-{seed}"
    if not has_failed(Path(results("")), subject):
        return None
    step = describe(
        "tune",
        {"variant": variant, "seed": str(seed)},
        {
            "study": take(STUDY, *read_by_tuning(variant)),
            "code": code_of("tune.py", *method_code(variant)),
            "pictures": pictures_of("tuning"),
        },
        [],
        [results(artefacts.SUBJECT_MODEL).format(subject=subject)],
        results=Path(results("")),
        scripts=SCRIPTS,
        index=CODE,
    )
    return left_out(Path(results("")), subject, step)


def all_left_out():
    """Tuned subjects that have no results, with the reason."""
    reasons = {
        f"{variant}/seed-{seed}": why_left_out(variant, seed)
        for variant in STUDY.trained_variants
        for seed in range(STUDY.seeds)
    }
    return {subject: why for subject, why in reasons.items() if why is not None}


FAILED = all_left_out()
TUNED = [subject for subject in STUDY.tuned_subjects if subject not in FAILED]
MEASURED = ["aligned", *TUNED]
PICTURED = [subject for subject in MEASURED if has_connector(subject)]
PATCHED = [subject for subject in PICTURED if subject != "aligned"]


def activations_of(wildcards):
    """Activations of one subject on all probe sets that it reads."""
    return expand(
        results(artefacts.ACTIVATIONS_PROBE),
        subject=wildcards.subject,
        probe=probes_of(wildcards.subject),
    )


def activations_of_reference(wildcards):
    """Activations of the aligned backbone, which tuned subjects are compared with."""
    if wildcards.subject in ("base", "aligned"):
        return []
    return expand(
        results(artefacts.ACTIVATIONS_PROBE),
        subject="aligned",
        probe=probes_of(wildcards.subject),
    )


def graphs_of(wildcards):
    """Neighbour graphs of one subject on all probe sets that it reads."""
    return expand(
        results(artefacts.NEIGHBOURS),
        subject=wildcards.subject,
        probe=probes_of(wildcards.subject),
    )


def graphs_of_reference(wildcards):
    """Neighbour graphs of the aligned backbone, which tuned subjects are compared with."""
    if wildcards.subject in ("base", "aligned"):
        return []
    return expand(
        results(artefacts.NEIGHBOURS),
        subject="aligned",
        probe=probes_of(wildcards.subject),
    )


def pooled_graphs_of(wildcards):
    """Neighbour graphs of images and words together; the base model sees no images."""
    if not has_connector(wildcards.subject):
        return []
    return expand(
        results(artefacts.NEIGHBOURS), subject=wildcards.subject, probe=POOLED
    )


def probe_tables_of(wildcards):
    """Tables of all probe sets that a subject reads."""
    return expand(results(artefacts.PROBE), probe=probes_of(wildcards.subject))


def features_for(wildcards):
    """Image features; the base model sees no images."""
    return [results(artefacts.FEATURES)] if has_connector(wildcards.subject) else []


def all_activations():
    return [
        results(artefacts.ACTIVATIONS_PROBE).format(subject=subject, probe=probe)
        for subject in ALL_SUBJECTS
        for probe in probes_of(subject)
    ]


def all_benchmark_items():
    return [
        results(artefacts.BENCHMARK_ITEMS).format(subject=subject, benchmark=task)
        for subject in ALL_SUBJECTS
        for task in benchmarks_of(subject)
    ]


ALL_SUBJECTS = [*(["base"] if TEXT_PROBES else []), *MEASURED]


def geometry_parts():
    """The tables that are made subject by subject: pattern of a part, and whose parts there are."""
    of_pairs = dict.fromkeys(("cross_modal", "alignment", "linear_probes"), PICTURED)
    of_change = dict.fromkeys(("change", "weight_change", "matrix_change"), TUNED)
    whose = of_pairs | of_change
    return {
        name: (f"geometry/{{subject}}/{name}.parquet", whose.get(name, ALL_SUBJECTS))
        for name in artefacts.GEOMETRY_TABLES
        if name in tables_of(STUDY)
    }


GEOMETRY_PARTS = geometry_parts()


def predicted(rule, wildcards, fixed):
    """What one job of a rule will take."""
    known = {key: value for key, value in wildcards.items()} | fixed
    return predicted_once(rule, **known)


@functools.cache
def predicted_once(rule, **known):
    return cost.predict(STUDY, rule, **known)


@functools.cache
def site():
    """The partitions that jobs go to; None where they run on one machine.

    A job finds the file by the variable that the run that submitted it has set.
    """
    path = os.environ.get(partitions.VARIABLE)
    if workflow.is_main_process:
        executor, given = command_line()
        if executor != "slurm":
            return None
        path = given or path
    elif "SLURM_JOB_ID" not in os.environ:
        return None
    if not path:
        return None
    os.environ[partitions.VARIABLE] = str(Path(path).absolute())
    return partitions.read_site(Path(path))


@functools.cache
def command_line():
    """Executor and partition file that command line and profiles give.

    A dry run has an executor of its own, so Snakemake's parser is asked once more.
    """
    with contextlib.redirect_stderr(io.StringIO()):
        arguments = parse_args(sys.argv[1:])[1]
    file = arguments.slurm_partition_config
    # Of an option that was not given Snakemake has an object that says so.
    return arguments.executor or "local", (
        file if isinstance(file, (str, Path)) else None
    )


if workflow.is_main_process and command_line()[0] == "slurm":
    # Snakemake cuts the threads of every job down to --cores, and `all` in profiles/default are the
    # cores of this machine: a login node must not say what a node computes on.
    workflow.resource_settings.cores = sys.maxsize
    workflow.global_resources["_cores"] = sys.maxsize


# Snakemake itself runs twice in a job on a cluster, and what it takes counts as the job's.
SNAKEMAKE_MB = 500
# A job may take four times the prediction; of a long one two and a half hours and half more.
MARGIN, LONG_MARGIN, LONG_S = 4, 1.5, 2.5 * 3600
LEAST_MARGIN = 1.15


def minutes_allowed(seconds):
    """Minutes that a job may take, for a slower machine than the one predicted for."""
    room = min(MARGIN * seconds, LONG_MARGIN * seconds + LONG_S)
    return max(10, round(room / 60))


def needed(rule, wildcards, fixed, attempt, threads):
    """What one attempt at a job needs: time and memory beyond the prediction, more on a retry."""
    count = gpus(rule)
    # Partitions with GPUs have some, so that `auto` computes on them.
    assumed = {"on_gpu": True} if site() and STUDY.compute.device == "auto" else {}
    price = predicted(rule, wildcards, fixed | assumed)
    held = predicted(rule, wildcards, fixed | ({"on_gpu": True} if count else {}))
    return placing.Ask(
        " ".join([rule, *(value for _, value in wildcards.items())]),
        gpus=count,
        gpu_memory_mb=held.on_one_gpu_mb,
        mem_mb=(0.5 + attempt) * price.memory_mb + (SNAKEMAKE_MB if site() else 0),
        runtime=attempt * minutes_allowed(price.seconds),
        threads=threads,
        least_runtime=max(10, round(LEAST_MARGIN * price.seconds / 60)),
    )


@functools.cache
def placed_once(rule, names, fixed, attempt, threads):
    """Where one attempt at a job goes, and what it asks for."""
    wildcards, fixed = dict(names), dict(fixed)
    first = needed(rule, wildcards, fixed, 1, threads)
    again = needed(rule, wildcards, fixed, attempt, threads)
    return placing.place(site(), again, first)


# Snakemake looks up what arguments a function takes each time that it calls it, for every resource
# of every job; written down, that takes no time.
SIGNATURES = {
    names: inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            for name in names
        ]
    )
    for names in (("wildcards",), ("wildcards", "attempt", "threads"))
}


def resource(function, *names):
    """A function that takes these arguments, and says so."""
    function.__signature__ = SIGNATURES[names]
    return function


def asked(rule, **fixed):
    """What jobs ask for; on a cluster also where they go, which follows from the rest."""
    here = ("mem_mb", "runtime", "gpu")

    def placed(key):
        def value(wildcards, attempt, threads):
            names = tuple(wildcards.items())
            return placed_once(rule, names, tuple(fixed.items()), attempt, threads)[key]

        return resource(value, "wildcards", "attempt", "threads")

    def rounded(key):
        def value(wildcards):
            return max(1, round(getattr(predicted(rule, wildcards, fixed), key)))

        return resource(value, "wildcards")

    return dict(
        predicted_s=rounded("seconds"),
        disk_mb=rounded("disk_mb"),
        **{key: placed(key) for key in (placing.RESOURCES if site() else here)},
    )


def gpus(step):
    """GPUs that a job asks for, where there are any."""
    if step in ("align", "tune"):
        return STUDY.compute.devices
    if step in ("find_neighbours", "pool_neighbours"):
        return 1 if STUDY.geometry.device == "cuda" else 0
    return 1 if step in cost.ON_GPU else 0


def priced(job, remote):
    """What a job of the coming run costs, for the overview."""
    name = job.rule.name.replace("_base_", "_")
    fixed = {"subject": "base"} if name != job.rule.name else {}
    name = name.replace("_text_", "_")
    price = predicted(
        name, job.wildcards_dict, fixed | ({"on_gpu": True} if remote else {})
    )
    return name, price, job.threads, gpus(name), remote


def on_cluster(snakemake_workflow):
    """Whether jobs go to a cluster."""
    if not snakemake_workflow.dryrun:
        return snakemake_workflow.non_local_exec
    return command_line()[0] not in ("local", "dryrun", "touch")


def check_places(jobs):
    """Stop a run before it submits anything if a job of it fits into no partition."""
    if command_line()[0] != "slurm":
        return
    placing.check(
        site(),
        (
            (
                placing.Ask(
                    " ".join([job.rule.name, *job.wildcards_dict.values()]),
                    gpus=(price := priced(job, True))[3],
                    gpu_memory_mb=price[1].on_one_gpu_mb,
                    mem_mb=job.resources.get("mem_mb", 0),
                    runtime=job.resources.get("runtime", 0),
                    threads=job.threads,
                ),
                job.resources.get("slurm_partition"),
            )
            for job in jobs
            if not job.is_norun and job.rule.name not in LOCAL
        ),
    )


def quick_rules():
    """Rules whose jobs, without a GPU, are over before a node is found for them."""
    if site() is None:
        return set()
    return {
        each.name
        for each in workflow.rules
        if (not each.has_wildcards() or each.name in OF_ALL_WILDCARDS)
        and each.name in cost.RULES
        and not gpus(each.name)
        and predicted_once(each.name).seconds < STUDY.compute.local_seconds
    }


LOCAL = workflow._localrules
# Rules with wildcards whose prediction without any is that of their largest job.
OF_ALL_WILDCARDS = ("read_questions",)
TRAINS = ("fetch_conversations", "import_align", "import_instruct", "align", "tune")
WAITS = {TRAINS: cost.missing, ("read_questions",): cost.missing_questions}
RUN = {}


def before_the_run(dag, jobs):
    """Say what a run will take; stop it if that is too much; let no other run in beside it."""
    snakemake_workflow = dag.workflow
    if snakemake_workflow.executor_plugin is None or snakemake_workflow.touch:
        return
    for subject, message in FAILED.items():
        reruns.say(f"Left out: {subject}. {message}")
    reruns.write_reasons(dag, jobs)
    if not jobs:
        return
    remote = on_cluster(snakemake_workflow)
    check_places(jobs)
    if snakemake_workflow.dryrun and not snakemake_workflow.output_settings.quiet:
        reruns.say(listing.render(listed(job) for job in jobs if site()))
    rows = cost.summarise((priced(job, remote) for job in jobs), STUDY)
    totals = cost.total(rows)
    cores = None if remote else snakemake_workflow.cores
    reruns.say(cost.render(rows, STUDY, cores))
    say_downloads(jobs, snakemake_workflow.dryrun)
    cost.check_quota(STUDY, totals)
    if snakemake_workflow.dryrun:
        return
    folder = scratch.scratch_folder(STUDY)
    apart = sum(row.disk_mb for row in rows if folder and row.stage == scratch.LARGE)
    cost.check_space(Path(results("")), totals.disk_mb + totals.work_mb - apart)
    if apart:
        cost.check_space(folder, apart)
    if totals.cache_mb:
        cost.check_space(Path(CACHE), totals.cache_mb)
    if not reruns.is_following():
        RUN["lock"] = RunLock(Path(results("")), STUDY.name)
        RUN["lock"].take()
        scratch.place_large(Path(results("")), folder)
        for home in {
            Path(results("")),
            scratch.home_of(Path(results(scratch.LARGE)), Path(results(""))),
        }:
            sweep_locks(home)
    write_plan(
        Path(results(".plan.json")),
        {
            str(job.output[0]): price.seconds
            / max(1, cores or 1)
            * min(threads, cores or 1)
            for job in jobs
            for _, price, threads, _, _ in [priced(job, remote)]
        },
    )


def listed(job):
    """What a job asks the cluster for, for the list of a dry run."""
    name, price, threads, count, _ = priced(job, True)
    asks = job.resources
    return listing.Line(
        " ".join([job.rule.name, *job.wildcards_dict.values()]),
        None if job.rule.name in LOCAL else asks.get("slurm_partition"),
        gpus=count,
        gpu_memory_mb=price.on_one_gpu_mb,
        threads=threads,
        mem_mb=asks.get("mem_mb", 0),
        minutes=asks.get("runtime", 0),
        predicted_s=price.seconds,
        disk_mb=price.disk_mb,
    )


def say_downloads(jobs, dryrun):
    """Say what will be downloaded; stop a run that waits for files which only people can put."""
    fetched = [
        (job.rule.name, job.wildcards_dict, predicted(job.rule.name, job.wildcards, {}))
        for job in jobs
        if cost.stage_of(job.rule.name) == "assets"
    ]
    said = cost.render_downloads(cost.downloads(STUDY, fetched))
    if said:
        reruns.say(said)
    for waiting, missing in WAITS.items():
        if not dryrun and any(job.rule.name in waiting for job in jobs):
            for message in missing(STUDY):
                raise WorkflowError(
                    f"config/studies/{STUDY.name}.yaml: {message}; nothing has been started"
                )


def after_the_run():
    if "lock" in RUN:
        RUN.pop("lock").release()


def go_on_without_failed():
    """After variants that cannot be trained: the rest of the study, with the gap shown."""
    new = [
        f"{subject}: {why}"
        for subject, why in all_left_out().items()
        if subject in TUNED
    ]
    if new and not reruns.is_following():
        reruns.say("\nGoing on without what cannot be trained:\n  " + "\n  ".join(new))
        reruns.follow()
