"""Sizes that follow from a study: parameters, tokens, pictures, items, rows."""

from __future__ import annotations

import json
from dataclasses import dataclass

from layersight.activations.budget import ModelShape
from layersight.cost import constants as of
from layersight.cost import shapes
from layersight.cost.shapes import Shape
from layersight.data.concepts import COLOURS
from layersight.study import (
    FolderLanguageModel,
    FolderVisionEncoder,
    HubLanguageModel,
    HubVisionEncoder,
    PackagedLanguageModel,
    Study,
)
from layersight.tuning import methods

TEXT_PROBES = ("text_questions", "pair_texts")
TENSORS_PER_BLOCK = 9
"""Of a Llama block: seven matrices and two norms."""


SHAPES = {
    "smollm2-135m-instruct": Shape(
        layers=30, width=576, intermediate=1536, key_value=192, vocabulary=49_152
    ),
}
"""Packaged language models; `layersight.models.registry` holds what the rest needs of them."""
RANDOM_VOCABULARY = 600


def shape(study: Study) -> Shape:
    """Return the sizes of the study's language model."""
    model = study.backbone.language_model
    if isinstance(model, PackagedLanguageModel):
        return SHAPES[model.name]
    if isinstance(model, HubLanguageModel | FolderLanguageModel):
        return Shape(**model.sizes.model_dump(), family=model.family or "llama")
    return Shape(model.layers, model.width, model.intermediate, model.width, RANDOM_VOCABULARY)


def parameters(study: Study) -> int:
    """Return the number of parameters of the language model."""
    return shape(study).parameters


def activation_shape(study: Study) -> ModelShape:
    """Return the sizes that activations depend on: all heads together are as wide as the stream."""
    found = shape(study)
    return ModelShape(found.layers, found.width, found.width)


def connector_parameters(study: Study) -> int:
    """Return the numbers that a connector file holds: its layers, mean and scale."""
    asked = study.backbone.connector
    return shapes.connector_parameters(
        asked.kind, encoder_channels(study), shape(study).width, asked.settings
    )


def number_bytes(study: Study) -> int:
    """Return the bytes of one weight while computing."""
    return {"float32": 4, "bfloat16": 2, "float16": 2}[study.compute.precision]


@dataclass(frozen=True)
class Learning:
    """What learns in a variant's language model.

    Attributes:
        parameters: how many numbers.
        bytes_each: of one of them, in memory and on disk.
        tensors: how many tensors they are.
        adapter: whether they stand beside the model's own weights.
        share: part of the blocks whose own weights learn.
    """

    parameters: int
    bytes_each: int
    tensors: int
    adapter: bool
    share: float


def learning(study: Study, variant: str) -> Learning:
    """Return what learns in a variant; a method without `tensors` counts as full tuning."""
    settings, sizes = study.variants[variant], shape(study)
    if settings.released is not None:
        # Nothing learns, but what differs may be everything.
        return Learning(sizes.parameters, of.RELEASED_BYTES, TENSORS_PER_BLOCK * sizes.layers + 2,
                        False, 0.0)  # fmt: skip
    chosen = study.blocks(variant)
    blocks = sizes.layers if chosen is None else len(chosen)
    share = blocks / sizes.layers
    method = methods.method(settings.method)
    if hasattr(method, "tensors"):
        read = method.Options.model_validate_json(json.dumps(settings.options))
        found = method.tensors(read, sizes.linear, sizes.width)
        # What learns is kept and stored in float32, whatever the precision.
        return Learning(blocks * sum(found), 4, blocks * len(found), True, 0.0)
    count = sizes.parameters if settings.layers is None else blocks * sizes.block
    return Learning(count, 4, TENSORS_PER_BLOCK * blocks + 2, False, share)


def variant_of(subject: str) -> str | None:
    """Return the variant of a subject; None for `base` and `aligned`."""
    variant, separator, _ = subject.partition("/seed-")
    return variant if separator else None


def sequence(study: Study, text: int = of.PEAK_TEXT_TOKENS, image: bool = True) -> int:
    """Return the tokens of a conversation with `text` tokens of its own."""
    system = study.backbone.system_prompt
    if system is None:
        text += of.DEFAULT_SYSTEM_TOKENS
    else:
        text += round(len(system) / of.CHARACTERS_PER_TOKEN)
    if study.benchmarks.choices < len(study.concepts.kinds):
        text += round(of.TOKENS_PER_OPTION * study.benchmarks.choices)
    return text + (image_tokens(study) if image else 0)


def training_sequence(study: Study, stage: str, peak: bool = False) -> int:
    """Return the tokens of a training conversation.

    Args:
        study: the study.
        stage: `align` or `tuning`.
        peak: of one in a batch of the longest, for memory.
    """
    data = getattr(study, stage).data
    if data is None or data.text_tokens is None:
        return sequence(study) if peak else sequence(study, of.TEXT_TOKENS)
    # The answer options that the study's own questions list are not in there.
    system = study.backbone.system_prompt
    own = of.DEFAULT_SYSTEM_TOKENS if system is None else len(system) / of.CHARACTERS_PER_TOKEN
    text = data.text_tokens * (of.LONGEST_ELSEWHERE if peak else 1)
    longest = of.LONGEST_SEQUENCE - image_tokens(study) if peak else text
    return round(min(text, longest) + own) + image_tokens(study)


def pictures_in_training(study: Study, stage: str) -> int:
    """Return how many pictures pass through the vision encoder while a stage trains."""
    settings = getattr(study, stage)
    return settings.steps * settings.batch_size if settings.data is not None else 0


def image_tokens(study: Study) -> int:
    """Return the tokens of a picture in the language model."""
    return study.backbone.image_tokens


def image_features(study: Study) -> int:
    """Return the features of a picture, which the connector reads."""
    return study.backbone.vision_encoder.tokens


def encoder_channels(study: Study) -> int:
    """Return the width of image features."""
    return study.backbone.vision_encoder.channels


def encoder_parameters(study: Study) -> int | None:
    """Return the parameters that features pass through; None for EfficientNet."""
    encoder = study.backbone.vision_encoder
    if not isinstance(encoder, HubVisionEncoder | FolderVisionEncoder):
        return None
    sizes, layer = encoder.sizes, encoder.select_layer
    used = layer if layer >= 0 else sizes.layers + 1 + layer
    return shapes.vision_parameters(
        sizes.width, sizes.intermediate, used, sizes.patch, encoder.tokens
    )


def picture_side(study: Study) -> int:
    """Return the side of the pictures that the vision encoder reads, in pixels."""
    encoder = study.backbone.vision_encoder
    if isinstance(encoder, HubVisionEncoder | FolderVisionEncoder):
        return encoder.sizes.size
    return study.concepts.image_size


def concepts(study: Study) -> int:
    """Return how many concepts the study has."""
    limit = study.concepts.limit_per_subgroup
    found = 0
    for subgroups in study.concepts.kinds.values():
        for subgroup in subgroups:
            if study.concepts.source == "synthetic":
                count = len(COLOURS)
            else:
                count = of.CONCEPTS_PER_SUBGROUP.get(subgroup, of.OTHER_SUBGROUP)
            found += count if limit is None else min(count, limit)
    return found


def drawn(study: Study) -> int:
    """Return how many pictures the study draws: every concept in every style."""
    return concepts(study) * (len(study.concepts.seen_styles) + 1)


def pictures(study: Study) -> int:
    """Return how many pictures pass through the vision encoder: drawn ones, and of questions."""
    asked = sum(own.items for own in study.questions.values() if "image" in own.inputs)
    return asked + (drawn(study) if study.shows_concepts else 0)


def probe_items(study: Study) -> int:
    """Return the rows of a probe set."""
    if study.probes.from_ is not None:
        return study.probes.items
    return min(study.probes.items, concepts(study))


def question_text(study: Study, name: str) -> int:
    """Return the tokens of a question of a set besides the picture."""
    return study.questions[name].text_tokens or of.QUESTION_TOKENS


def probe_text(study: Study, probe: str) -> int:
    """Return the tokens of a probe set's inputs besides the picture."""
    # Half of the sets are the bare picture or name: their text is the template alone.
    whole = of.TEXT_TOKENS
    if study.probes.from_ is not None:
        whole = question_text(study, study.probes.from_)
    return whole if probe.endswith("questions") else whole // 2


def task_text(study: Study, task: str) -> int:
    """Return the tokens of a benchmark's items besides the picture."""
    found = study.question_tasks.get(task)
    return of.TEXT_TOKENS if found is None else question_text(study, found[0])


def peak_text(study: Study) -> int:
    """Return the tokens of inputs besides the picture in a batch of the longest."""
    asked = [question_text(study, name) for name in study.questions]
    return max([of.PEAK_TEXT_TOKENS, *(of.LONGEST_QUESTION * tokens for tokens in asked)])


def generated(study: Study, task: str) -> int:
    """Return the tokens that the answers of a benchmark are generated with, at most."""
    found = study.question_tasks.get(task)
    if found is not None:
        return study.questions[found[0]].max_new_tokens or study.benchmarks.max_new_tokens
    return study.benchmarks.max_new_tokens if task in ("presence", "naming") else 0


def reads_pictures(study: Study, subject: str) -> bool:
    """Return whether a subject has a connector: the base, and a language model alone, have not."""
    variant = variant_of(subject)
    return subject != "base" and (variant is None or study.variants[variant].reads_pictures)


def probes_read(study: Study, subject: str) -> list[str]:
    """Return the probe sets that a subject reads: without a connector those of text."""
    pictures = reads_pictures(study, subject)
    return [name for name in study.probes.sets if pictures or name in TEXT_PROBES]


def generates(study: Study, task: str) -> bool:
    """Return whether patching lets hybrids generate answers: where they may be free."""
    found = study.question_tasks.get(task)
    return found is not None and study.questions[found[0]].form in ("jsonl", "cocoqa")


def tasks_asked(study: Study, subject: str) -> list[str]:
    """Return the benchmarks that a subject is asked: without a connector those of text."""
    pictures = reads_pictures(study, subject)
    return study.tasks if pictures else study.text_tasks


def streams(study: Study, probe: str) -> int:
    """Return how many of the study's streams that geometry reads a probe set's inputs have."""
    absent = {"image_mean"} if probe in TEXT_PROBES else set()
    if probe == "pair_images":
        absent = {"text_mean"}
    return len(set(study.activations.streams) - absent - {"one", "all"})


def items(study: Study, task: str) -> int:
    """Return the items of a benchmark, all splits and conditions together."""
    found = study.question_tasks.get(task)
    if found is not None:
        return study.questions[found[0]].items
    counts = study.benchmarks
    return {
        "kind_image": 3 * counts.kind,
        "kind_text": 2 * counts.kind,
        "presence": 3 * 3 * 2 * (counts.presence // 2),
        "naming": 3 * counts.naming,
    }[task]
