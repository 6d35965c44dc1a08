"""The study of this run, its paths, and what every rule shares."""

from layersight import artefacts, cost
from layersight.data.packages import PACKAGES, PROVENANCE, cache_folder, package_folder
from layersight.errors import UserError
from layersight.models import registry
from layersight.plan import write_plan
from layersight.slices import take
from layersight.study import (
    BENCHMARKS,
    PROBES,
    PackagedLanguageModel,
    PackagedVisionEncoder,
    load_study,
)
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
        return load_study(Path("config/studies") / f"{name}.yaml", overrides)
    except UserError as error:
        raise WorkflowError(str(error))


STUDY = chosen_study()
CACHE = str(cache_folder(STUDY))
PACKAGE_KEYS = {package_folder(key, Path(CACHE)).name: key for key in PACKAGES}
ENVIRONMENT = str(Path(workflow.basedir) / "envs/layersight.yaml")
TEXT_PROBES = ["text_questions", "pair_texts"]
TEXT_BENCHMARKS = ["kind_text"]
MEASURED = ["aligned", *STUDY.tuned_subjects]
ALL_SUBJECTS = ["base", *MEASURED]


wildcard_constraints:
    subject=r"base|aligned|[a-z0-9._-]+/seed-\d+",
    variant=r"[a-z0-9._-]+",
    seed=r"\d+",
    package=r"[a-z0-9.-]+",


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
    return results(artefacts.RANDOM_LANGUAGE_MODEL)


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
    if not isinstance(encoder, PackagedVisionEncoder):
        return []
    return [package_marker(registry.VISION_ENCODERS[encoder.name].package)]


def probes_of(subject):
    """Probe sets that a subject can read: the base language model has no connector."""
    return TEXT_PROBES if subject == "base" else list(PROBES)


def benchmarks_of(subject):
    """Benchmarks that a subject can take: the base language model reads text only."""
    return TEXT_BENCHMARKS if subject == "base" else list(BENCHMARKS)


def figures_of_study():
    """Names of the figures: some need a sweep or a stream that a study may leave out."""
    names = ["scores", "differences", "presence"]
    names += [
        f"recovery_{kind}"
        for kind in dict.fromkeys(s.kind for s in STUDY.patching.sweeps)
    ]
    names += ["change"]
    streams = set(STUDY.activations.streams)
    for name in ("overlap_tuned", "intrinsic_dimension"):
        names += [name] if "last" in streams else []
        names += [f"{name}_means"] if streams - {"last"} else []
    names += ["intrinsic_dimension_scales"]
    if "last" in streams or {"image_mean", "text_mean"} <= streams:
        names += [
            "overlap_modalities",
            "cka_modalities",
            "cosine_modalities",
            "label_overlap",
        ]
    return [*names, "training"]


def seconds(predicted):
    return max(1, round(predicted.seconds))


def minutes(predicted):
    """Time limit: four times the prediction and never under ten minutes, more on a retry."""
    return lambda wildcards, attempt: attempt * max(
        10, round(predicted.seconds * 4 / 60)
    )


def memory(predicted):
    """Memory limit: half as much again as predicted, more on a retry."""
    return lambda wildcards, attempt: round((0.5 + attempt) * predicted.memory_mb)


LIGHT = cost.Cost(seconds=5, memory_mb=600)
ROUTINE = dict(
    predicted_s=seconds(LIGHT),
    runtime=minutes(LIGHT),
    mem_mb=memory(LIGHT),
    disk_mb=200,
    gpu=0,
)


def announce(workflow):
    """Say what is about to run, and leave the plan for the remaining time."""
    jobs = [job for job in workflow.dag.needrun_jobs() if job.output]
    planned = {
        str(job.output[0]): float(job.resources.get("predicted_s", 5))
        / max(1, workflow.cores or 1)
        * min(job.threads, workflow.cores or 1)
        for job in jobs
    }
    write_plan(Path(results(".plan.json")), planned)
    total = sum(planned.values())
    print(
        f"Study {STUDY.name}: {len(jobs)} jobs, about {max(1, round(total / 60))} min on "
        f"{workflow.cores} cores if they are as fast as the reference machine's."
    )
