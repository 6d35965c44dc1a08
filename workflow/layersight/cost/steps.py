"""The steps that run a model and train none: reading activations, answering, patching."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from layersight.activations.budget import Counts, activation_bytes
from layersight.cost import constants as of
from layersight.cost import sizes
from layersight.cost.estimate import Cost
from layersight.interventions.windows import windows
from layersight.study import Study

_MB = 1e6
Window = tuple[str, int, int | None]


def speed(study: Study, threads: int, on_gpu: bool | None, *, trains: bool = False) -> float:
    """Return floating-point operations per second of a job.

    A GPU's speed is the published peak of an A100 times a utilisation, which is fitted for training
    in half precision, and else assumed.

    Args:
        study: the study.
        threads: of the job.
        on_gpu: whether a GPU computes; None: if `compute.device` is `cuda`.
        trains: whether the job trains.
    """
    precision = study.compute.precision
    if uses_gpu(study, on_gpu):
        fitted = trains and precision != "float32"
        share = of.TRAINING_UTILISATION if fitted else of.ASSUMED_GPU_UTILISATION
        return of.A100_PEAK_FLOPS[precision] * share
    return of.CORE_FLOPS * threads * (1.0 if precision == "float32" else of.EMULATED_BFLOAT16)


def take_connector(study: Study) -> Cost:
    """A released connector, read and written; nothing is trained."""
    connector = sizes.connector_parameters(study) * 4
    disk = connector + 2 * of.TABLE_BYTES + of.MANIFEST_BYTES
    memory = of.LOAD_MB + 3 * connector / _MB
    return Cost(of.START_SECONDS, memory, disk / _MB)


def take_released(study: Study, variant: str | None = None, seed: int | str = 0) -> Cost:
    """A released model, compared with the base from file to file; no model is in memory.

    Args:
        study: the study.
        variant: name of one that is taken; None: any of them.
        seed: not read; a released model is one subject.
    """
    shape = sizes.shape(study)
    # Half precision, as released models are; all of them may differ.
    stored = shape.parameters * of.RELEASED_BYTES
    weights = 2 * stored
    seconds = of.START_SECONDS + 2 * weights / of.LOAD_BYTES_PER_SECOND
    disk: float = stored + sizes.connector_parameters(study) * 4
    # Files are mapped; copied are the embeddings and the head, where rows are left out.
    memory = of.LOAD_MB + 2 * 4 * shape.embeddings / _MB
    # Where the vision encoder is another one, its own features.
    own = features(study, on_gpu=False)
    reads = variant is None or study.variants[variant].reads_pictures
    if reads and sizes.encoder_parameters(study) is not None:
        seconds += own.seconds
        memory = max(memory, own.memory_mb)
        disk += own.disk_mb * _MB + 4 * (sizes.encoder_parameters(study) or 0)
    disk += 2 * of.TABLE_BYTES + of.MANIFEST_BYTES
    return Cost(seconds, memory, disk / _MB)


def activations(
    study: Study,
    subject: str = "aligned",
    probes: Sequence[str] | None = None,
    *,
    on_gpu: bool | None = None,
) -> Cost:
    """Forward passes over probe sets, and the vectors of all layers.

    Args:
        study: the study.
        subject: `base` reads text only.
        probes: probe sets that this job reads; None: all that the subject can.
        on_gpu: see `speed`.
    """
    chosen = sizes.probes_read(study, subject) if probes is None else list(probes)
    count, layers = sizes.probe_items(study), len(study.layers)
    shape = sizes.activation_shape(study)
    turned = "one" in study.activations.streams
    tokens, disk, held, work = 0.0, 0.0, 0.0, 0.0
    for name in chosen:
        image = name not in sizes.TEXT_PROBES
        each = sizes.sequence(study, sizes.probe_text(study, name), image)
        # With `one`, inputs with a picture run once more, the question first.
        tokens += count * each * (2 if turned and image else 1)
        counts = Counts(
            items=count,
            with_image=count if image else 0,
            with_text=0 if name == "pair_images" else count,
            with_both=count if image and name != "pair_images" else 0,
            tokens=count * each,
        )
        streams = activation_bytes(study.activations, shape, counts).values()
        numbers = sum(stream.bytes for stream in streams)
        # A part is written once it has at least so many rows; a batch's rows come together.
        most = study.activations.rows_per_part + sum(
            stream.rows / count * study.evaluation.batch_size for stream in streams
        )
        rows = sum(stream.rows for stream in streams)
        parts = max(1, round(rows / study.activations.rows_per_part))
        groups = sum(1 for stream in streams if stream.rows)
        disk += numbers + rows * layers * of.ACTIVATION_ROW_BYTES + of.MANIFEST_BYTES
        disk += parts * layers * (of.ACTIVATION_PART_BYTES + groups * of.ACTIVATION_GROUP_BYTES)
        share = min(1.0, most / rows)
        # An unfinished part waits beside the finished ones.
        work = max(work, share * numbers)
        # Memory has a batch in float32, twice, and a stream of a part at one layer as it is
        # written: its numbers, and Arrow's and Parquet's copies and levels of them.
        float32 = numbers * (2 if study.activations.dtype == "float16" else 1)
        one = max(stream.bytes / stream.layers for stream in streams)
        batch = min(1.0, study.evaluation.batch_size / count)
        held = max(held, 2 * batch * float32 + of.ACTIVATION_COPIES * share * one)
    cost = _measuring(study, subject, tokens, on_gpu)
    return _with(cost, held / _MB, disk / _MB, (disk + work) / _MB)


def benchmarks(
    study: Study,
    subject: str = "aligned",
    tasks: Sequence[str] | None = None,
    *,
    on_gpu: bool | None = None,
) -> Cost:
    """One forward pass for each choice, and a few more tokens for each generated answer."""
    chosen = sizes.tasks_asked(study, subject) if tasks is None else list(tasks)
    tokens, disk = 0.0, 0.0
    for task in chosen:
        count = sizes.items(study, task)
        text = sizes.task_text(study, task)
        tokens += count * sizes.sequence(study, text, task not in study.text_tasks)
        tokens += count * sizes.generated(study, task) * of.DECODING
        disk += of.TABLE_BYTES + of.MANIFEST_BYTES + count * of.ROW_BYTES["items"]
    return _with(_measuring(study, subject, tokens, on_gpu), 0.0, disk / _MB, disk / _MB)


def attention(study: Study, subject: str = "aligned", *, on_gpu: bool | None = None) -> Cost:
    """Answers to visual questions, and one more pass over question and answer."""
    settings = study.attention
    if settings is None:
        return Cost(0.0, 0.0)
    count = min(settings.items, sizes.probe_items(study))
    text = sizes.probe_text(study, "visual_questions")
    sequence = sizes.sequence(study, text) + settings.new_tokens
    tokens = count * (2 * sequence + settings.new_tokens * of.DECODING)
    cost = _measuring(study, subject, tokens, on_gpu)
    # One block's attention of all heads, before and after the softmax.
    heads = sizes.shape(study).width / of.HEAD_WIDTH
    held = 2 * settings.batch_size * heads * sequence**2 * 4
    rows = count * sizes.shape(study).layers * 4
    disk = of.TABLE_BYTES + of.MANIFEST_BYTES + rows * of.ROW_BYTES["attention"]
    return _with(cost, held / _MB, disk / _MB, disk / _MB)


def token_clouds(study: Study, subject: str = "aligned", *, on_gpu: bool | None = None) -> Cost:
    """Every prompt by itself, some of them in other orders, and the cloud of each run's tokens."""
    settings = study.token_clouds
    if settings is None:
        return Cost(0.0, 0.0)
    count = min(settings.prompts or sizes.probe_items(study), sizes.probe_items(study))
    shuffled = min(settings.shuffled_prompts, count)
    tokens, runs = 0.0, 0.0
    for name in sizes.probes_read(study, subject):
        text = sizes.probe_text(study, name)
        length = sizes.sequence(study, text, name not in sizes.TEXT_PROBES)
        # Orders in more blocks than there are tokens are not run.
        levels = sum(4**level <= length for level in range(1, settings.largest_shuffle + 1))
        runs += count + shuffled * levels
        tokens += (count + shuffled * levels) * length
    # A prompt by itself fills no batch.
    cost = _measuring(study, subject, tokens * of.SINGLE_PROMPT, on_gpu)
    rows = runs * len(study.layers) * (8 + len(settings.ks))
    seconds = cost.seconds + runs * len(study.layers) * of.TOKEN_CLOUD_SECONDS
    disk = of.TABLE_BYTES + rows * of.ROW_BYTES["token_clouds"]
    return _with(replace(cost, seconds=seconds), rows * 1e-3, disk / _MB, disk / _MB)


def patching(study: Study, subject: str | None = None, *, on_gpu: bool | None = None) -> Cost:
    """Block evaluations of the prefix tree, both models loaded, for one variant and seed."""
    shape = sizes.shape(study)
    family = tuple((sweep.kind, sweep.stride, sweep.width) for sweep in study.patching.sweeps)
    blocks, hybrids = prefix_tree(shape.layers, family)
    directions = len(study.patching.directions)
    items = study.patching.items
    # Both identities are checked on one batch of each direction: that much once more.
    checked = 2 * min(study.evaluation.batch_size, items)
    passes = items * blocks / shape.layers + checked
    scored = study.patching.split
    image = scored not in study.text_tasks
    sequence = sizes.sequence(study, sizes.task_text(study, scored), image)
    tokens = directions * passes * sequence
    if sizes.generates(study, scored):
        # Every hybrid by itself, with an answer of several tokens.
        each = sequence + sizes.generated(study, scored) * of.DECODING
        tokens = directions * (items * hybrids * each + checked * sequence)
    chosen = [subject] if subject else [f"{name}/seed-0" for name in study.variants]
    cost = largest(_measuring(study, name, tokens, on_gpu, models=2) for name in chosen)
    rows = min(items, study.evaluation.batch_size)
    states = rows * sizes.sequence(study, sizes.peak_text(study)) * (shape.layers + 1) * shape.width
    logits = hybrids * rows * shape.vocabulary
    kept = (states * sizes.number_bytes(study) + logits * 4) / _MB
    disk = of.TABLE_BYTES + of.MANIFEST_BYTES
    disk += directions * items * hybrids * of.ROW_BYTES["patching"]
    return _with(cost, kept, disk / _MB, disk / _MB)


@lru_cache
def prefix_tree(layers: int, sweeps: tuple[Window, ...]) -> tuple[int, int]:
    """Return block evaluations and hybrids of a sweep.

    Args:
        layers: blocks of the model.
        sweeps: kind, stride and width of every family of windows.
    """
    named = {
        (kind, window)
        for kind, stride, width in sweeps
        for window in windows(kind, layers, stride, width)
    }
    prefixes = {
        # Seen from the first `depth` blocks, a window that begins later is none.
        (depth, (start, min(stop, depth)) if start < depth else (0, 0))
        for start, stop in {(0, 0)} | {window for _, window in named}
        for depth in range(1, layers + 1)
    }
    # Besides the target itself: the donor, and its connector with none and with all of its blocks.
    return len(prefixes) + 3 * layers, len(named) + 4


def features(study: Study, images: int | None = None, *, on_gpu: bool | None = None) -> Cost:
    """The vision encoder on every picture.

    Args:
        study: the study.
        images: how many pictures; None: those of the study.
        on_gpu: a GPU is no faster for EfficientNet by prediction: reading pictures takes the time.
    """
    count = sizes.pictures(study) if images is None else images
    pixels = sizes.picture_side(study) ** 2
    weights = sizes.encoder_parameters(study)
    if weights is None:
        seconds = count * pixels * of.ENCODER_SECONDS_PER_PIXEL / study.compute.training_threads
    else:
        # The encoder computes in float32, whatever the precision of the language model.
        work = 2.0 * count * sizes.image_features(study) * weights
        seconds = count * pixels * of.DRAW_SECONDS_PER_PIXEL / 10
        seconds += work / _encoder_speed(study, study.compute.training_threads, on_gpu)
    stored = features_bytes(study, count)
    png = count * pixels * of.PNG_BYTES_PER_PIXEL[study.concepts.source]
    encoder = of.ENCODER_BATCH * pixels * of.ENCODER_BYTES_PER_PIXEL
    # The table and its rows in Python; the features by batch and put together.
    memory = of.LOAD_MB + (2 * png + 2 * stored + encoder + 8 * (weights or 0)) / _MB
    return Cost(of.START_SECONDS + seconds, memory, stored / _MB)


def uses_gpu(study: Study, on_gpu: bool | None) -> bool:
    """Return whether a job computes on a GPU; None: if `compute.device` is `cuda`."""
    return study.compute.device == "cuda" if on_gpu is None else on_gpu


def _encoder_speed(study: Study, threads: int, on_gpu: bool | None) -> float:
    """Return floating-point operations per second in float32."""
    if uses_gpu(study, on_gpu):
        return of.A100_PEAK_FLOPS["float32"] * of.ASSUMED_GPU_UTILISATION
    return of.CORE_FLOPS * threads


def features_bytes(study: Study, images: int) -> float:
    """Return the size of the stored features: float32, and an identifier for each picture."""
    numbers = images * sizes.image_features(study) * sizes.encoder_channels(study)
    return numbers * 4.0 + images * 25


def _measuring(
    study: Study, subject: str, tokens: float, on_gpu: bool | None, *, models: int = 1
) -> Cost:
    """A job that only runs models forward; `models` 2 adds the aligned backbone to the subject."""
    shape, each = sizes.shape(study), sizes.number_bytes(study)
    weights = shape.parameters * each
    variant = sizes.variant_of(subject)
    learns = sizes.learning(study, variant) if variant else None
    delta = learns.parameters * learns.bytes_each if learns else 0
    work = 2.0 * tokens * shape.layers * shape.block
    seconds = of.START_SECONDS + (models * weights + delta) / of.LOAD_BYTES_PER_SECOND
    seconds += work / speed(study, study.compute.measuring_threads, on_gpu)
    batch = study.evaluation.batch_size
    # One block's numbers, the keys and values of all for generation, and the last token's logits.
    longest = sizes.sequence(study, sizes.peak_text(study))
    block = batch * longest * (6 * shape.width + 3 * shape.intermediate)
    cache = 2 * batch * longest * shape.layers * shape.key_value
    logits = 2 * batch * shape.vocabulary * 4
    adapter = learns is not None and learns.adapter
    device = of.LOAD_MB + (of.ADAPTER_MB if adapter else 0.0)
    device += (models * weights + adapter * delta + (block + cache) * each + logits) / _MB
    # The delta is read beside the weights that it replaces, before they go to the device.
    memory = device + (0 if adapter else delta / _MB)
    memory += features_bytes(study, sizes.pictures(study)) / _MB
    return Cost(seconds, memory, device_mb=device)


def _with(cost: Cost, held_mb: float, disk_mb: float, work_mb: float) -> Cost:
    """Return a measurement's cost with what it holds besides the model, and what it writes."""
    memory, device = cost.memory_mb + held_mb, cost.on_one_gpu_mb + held_mb
    return Cost(cost.seconds, memory, disk_mb, work_mb, device)


def largest(costs: Iterable[Cost]) -> Cost:
    """Return what suffices for each of several jobs."""
    found = list(costs)
    return Cost(
        max(cost.seconds for cost in found),
        max(cost.memory_mb for cost in found),
        max(cost.disk_mb for cost in found),
        max(cost.work_mb for cost in found),
        max(cost.on_one_gpu_mb for cost in found),
    )
