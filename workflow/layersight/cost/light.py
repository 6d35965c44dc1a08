"""The steps that run no language model: packages, data, geometry, tables, figures, report."""

from __future__ import annotations

from layersight.cost import constants as of
from layersight.cost import sizes
from layersight.cost.estimate import Cost
from layersight.cost.steps import speed
from layersight.data.packages import PACKAGES
from layersight.reporting.figure_names import figure_names
from layersight.study import Study

_MB = 1e6
_PAIRS = (("image_mean", "text_mean"), ("last",), ("last",))
"""Streams that the comparisons of images and words need."""


_UNKNOWN_CONVERSATIONS = 1_000_000


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
    pixels = sizes.pictures(study) * study.concepts.image_size**2
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


def intrinsic_dimension(study: Study, subject: str) -> Cost:
    """TwoNN and GRIDE of every probe set, stream and layer."""
    clouds = _clouds(study, subject)
    seconds = clouds * sizes.probe_items(study) * of.DIMENSION_SECONDS
    return _geometry(study, seconds, clouds, "intrinsic_dimension", clouds=1)


def cross_modal(study: Study, subject: str) -> Cost:
    """Overlap, CKA and cosines between images and words, of every layer."""
    given = set(study.activations.streams)
    pairs = sum(given.issuperset(pair) for pair in _PAIRS) * len(study.layers)
    squared = sizes.probe_items(study) ** 2
    seconds = pairs * study.geometry.resamples * squared * of.CROSS_MODAL_SECONDS
    return _geometry(study, seconds, pairs, "cross_modal", clouds=2)


def change(study: Study, subject: str) -> Cost:
    """Overlap and distances between a subject and the aligned backbone."""
    clouds = _clouds(study, subject)
    draws = sizes.probe_items(study) * study.geometry.resamples
    seconds = clouds * draws * of.CHANGE_SECONDS
    return _geometry(study, seconds, clouds, "change", clouds=2)


def weight_change(study: Study, subject: str) -> Cost:
    """Two models in float32 and the delta; blocks are compared in float64, one at a time."""
    shape = sizes.shape(study)
    weights = shape.parameters * 4
    variant = sizes.variant_of(subject)
    learns = sizes.learning(study, variant) if variant else None
    delta = learns.parameters * learns.bytes_each if learns else 0
    seconds = of.START_SECONDS + 2 * weights / of.LOAD_BYTES_PER_SECOND
    seconds += shape.parameters * 20 / 1e9
    memory = of.LOAD_MB + (1.5 * weights + delta / 2 + 3 * 8 * shape.block) / _MB
    disk = of.TABLE_BYTES + shape.layers * 10
    return Cost(seconds, memory, disk / _MB)


def geometry_tables(study: Study) -> Cost:
    """All subjects' tables of geometry, put together."""
    tuned = study.tuned_subjects
    measured = ["aligned", *tuned]
    parts = [intrinsic_dimension(study, subject) for subject in ["base", *measured]]
    parts += [cross_modal(study, subject) for subject in measured]
    parts += [change(study, subject) for subject in tuned]
    parts += [weight_change(study, subject) for subject in tuned]
    disk = sum(part.disk_mb for part in parts)
    return Cost(of.LIGHT_START_SECONDS, of.TABLE_MB + 20 * disk, disk)


def score_tables(study: Study) -> Cost:
    """Scores and differences with intervals."""
    tuned = len(study.tuned_subjects)
    items = sum(sizes.items(study, task) for task in study.benchmarks.tasks)
    rows = (2 + tuned) * items
    seconds = of.LIGHT_START_SECONDS + rows * study.statistics.resamples * 5e-8
    # Bootstrap draws are made split by split; the table of items is in memory as a data frame.
    memory = of.TABLE_MB + rows * 1e-3
    disk = 2 * of.TABLE_BYTES + (2 + tuned) * len(study.benchmarks.tasks) * 200
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


def import_conversations(study: Study) -> Cost:
    """Conversations from elsewhere; how many they are is not known before they are read."""
    # They are read as a stream: memory does not grow with them.
    return Cost(_UNKNOWN_CONVERSATIONS * 1e-4, 2 * of.TABLE_MB, _UNKNOWN_CONVERSATIONS * 3e-4)


def attention_tables(study: Study) -> Cost:
    """The attention ratios of all subjects, with intervals."""
    blocks, items = sizes.shape(study).layers, study.attention.items if study.attention else 0
    subjects = 1 + len(study.tuned_subjects)
    cost = _table(subjects * blocks * 4)
    draws = subjects * (blocks + 1) * 4 * items * study.statistics.resamples
    return Cost(cost.seconds + draws * 1e-8, cost.memory_mb, cost.disk_mb)


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
    """One page that holds every figure as base64."""
    png = _figures_bytes(study) * of.PNG_SHARE
    page = of.PAGE_BYTES + png * 4 / 3 + 20_000 * len(study.tuned_subjects)
    return Cost(of.LIGHT_START_SECONDS + 2.0, of.TABLE_MB + 6 * page / _MB, page / _MB)


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


def _clouds(study: Study, subject: str) -> int:
    probes = sizes.probes_read(study, subject)
    return sum(sizes.streams(study, probe) for probe in probes) * len(study.layers)


def _geometry(study: Study, seconds: float, curves: int, what: str, clouds: int) -> Cost:
    """Distances between all vectors of a cloud, one layer and stream at a time."""
    n, width = sizes.probe_items(study), sizes.shape(study).width
    core = speed(study, 1, on_gpu=False)
    seconds += curves * clouds * 2.0 * n * n * width / core
    # A part is read whole (its vectors twice), then distances in float64 and their order.
    held = clouds * (6 * n * width * 4 + 4 * n * n * 8)
    disk = of.TABLE_BYTES + curves * of.CURVE_BYTES[what]
    start = of.LIGHT_START_SECONDS + 1.0
    return Cost(start + seconds, of.GEOMETRY_MB + held / _MB, disk / _MB)
