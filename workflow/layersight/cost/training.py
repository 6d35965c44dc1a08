"""Stage 1 and stage 2: time, memory of host and devices, and what is stored."""

from __future__ import annotations

from typing import Literal

from layersight.cost import constants as of
from layersight.cost import sizes
from layersight.cost.estimate import Cost
from layersight.cost.steps import features_bytes, largest, speed, uses_gpu
from layersight.study import Study

_MB = 1e6


def align(study: Study, *, on_gpu: bool | None = None) -> Cost:
    """Stage 1: forward, and backward through frozen blocks."""
    none = sizes.Learning(0, sizes.number_bytes(study), 0, adapter=False, share=0.0)
    return _training(study, "align", none, on_gpu)


def tune(
    study: Study, variant: str | None = None, seed: int | str = 0, *, on_gpu: bool | None = None
) -> Cost:
    """Stage 2 of one variant; None gives the dearest of them. All seeds cost the same."""
    if variant is not None:
        return _training(study, "tuning", sizes.learning(study, variant), on_gpu)
    trained = [tune(study, name, on_gpu=on_gpu) for name in study.trained_variants]
    return largest(trained or [Cost(0.0, 0.0)])


def _training(
    study: Study, stage: Literal["align", "tuning"], learns: sizes.Learning, on_gpu: bool | None
) -> Cost:
    settings, shape = getattr(study, stage), sizes.shape(study)
    each, batch = sizes.number_bytes(study), settings.batch_size
    conversations = settings.steps * batch
    tokens = conversations * sizes.training_sequence(study, stage)
    tokens *= of.PADDED if stage == "tuning" and settings.data is not None else 1.0
    labels = conversations * of.ANSWER_TOKENS[stage] / 2
    # Two operations a weight and token forward, two back through it, two for its gradient; and
    # what adapters compute, at most two tensors at each of the seven linear layers of a block.
    beside = of.ADAPTER_PASSES * min(1.0, learns.tensors / (14 * shape.layers))
    passes = 4.0 + (beside if learns.adapter else 2.0 * learns.share)
    # Blocks are computed forward once more.
    passes += 2.0 if settings.gradient_checkpointing else 0.0
    work = passes * (tokens * shape.layers * shape.block + labels * shape.embeddings)
    # The frozen encoder reads pictures from elsewhere forward, in the training's precision.
    pictures = sizes.pictures_in_training(study, stage)
    encoder = sizes.encoder_parameters(study)
    work += 2.0 * pictures * sizes.image_features(study) * (encoder or 0)
    own = 0 if learns.adapter else learns.parameters
    # What learns is loaded as the rest, and then kept in float32.
    weights = (shape.parameters - own) * each + own * learns.bytes_each
    learnt = learns.parameters * learns.bytes_each
    connector = sizes.connector_parameters(study) * 4
    seconds = of.START_SECONDS + 2 * shape.parameters * each / of.LOAD_BYTES_PER_SECOND
    devices = study.compute.devices
    seconds += work / (speed(study, study.compute.training_threads, on_gpu, trains=True) * devices)
    if encoder is None:
        pixels = pictures * sizes.picture_side(study) ** 2
        seconds += (
            pixels * of.ENCODER_SECONDS_PER_PIXEL / (study.compute.training_threads * devices)
        )

    numbers = of.KEPT_WIDTHS * shape.width + of.KEPT_INTERMEDIATES * shape.intermediate
    # A device computes its share of the batch, part by part.
    rows = batch / (settings.accumulate * devices)
    longest = sizes.training_sequence(study, stage, peak=True)
    if settings.gradient_checkpointing:
        # The input of every block, and all of the one or two that are computed again.
        kept = rows * longest * (shape.layers * shape.width + 2 * numbers) * each
    else:
        kept = rows * longest * shape.layers * numbers * each
    kept *= of.ADAPTER_KEEPS if learns.adapter else 1.0
    answers = of.ANSWER_TOKENS[stage] if settings.data is None else longest
    answers = min(answers, longest - sizes.image_tokens(study))
    kept += of.LOGIT_COPIES * rows * answers * shape.vocabulary * 4
    # Gradient and two moments of all that learns; an adapter comes on top of the model's weights.
    states = (4 if learns.adapter else 3) * learnt + 4 * connector
    fixed = of.LOAD_MB + (of.ADAPTER_MB if learns.adapter else 0.0)
    fixed += (
        features_bytes(study, sizes.pictures(study)) + 4 * (encoder or 0) * bool(pictures)
    ) / _MB
    shared = study.compute.parallel == "fsdp" and devices > 1
    held = fixed + ((weights + states) / (devices if shared else 1) + kept) / _MB
    # Every process reads the whole model, and puts it on its device, before it is divided.
    device = max(held, fixed + weights / _MB)
    memory = devices * device
    if devices > 1 and uses_gpu(study, on_gpu):
        # The host has the model of every process, and in the end all that learnt.
        memory = max(devices * (fixed + weights / _MB), fixed + (weights + states) / _MB)

    disk = connector + learnt + learns.tensors * of.TENSOR_BYTES + of.MANIFEST_BYTES
    disk += of.TABLE_BYTES + settings.steps * of.ROW_BYTES["training"]
    # A checkpoint holds what learns and its two moments.
    work_bytes = of.CHECKPOINT_COPIES * 3 * (learnt + connector)
    return Cost(seconds, memory, disk / _MB, work_bytes / _MB, device)
