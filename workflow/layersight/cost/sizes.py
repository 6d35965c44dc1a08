"""Sizes that follow from a study: parameters, tokens, pictures, items, rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from layersight.activations.budget import ModelShape
from layersight.cost import constants as of
from layersight.data.concepts import COLOURS
from layersight.models import registry
from layersight.study import PackagedLanguageModel, PackagedVisionEncoder, Study
from layersight.tuning import methods

TEXT_PROBES = ("text_questions", "pair_texts")
TEXT_TASKS = ("kind_text",)
ENCODER_CHANNELS = 1280
"""Of EfficientNet-Lite0, also with random weights."""
TENSORS_PER_BLOCK = 9
"""Of a Llama block: seven matrices and two norms."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a language model that the cost model needs.

    Attributes:
        layers: blocks L.
        width: residual stream d.
        intermediate: width of the feed-forward layer.
        key_value: width of keys and of values (less than d with grouped queries).
        vocabulary: tokens.
        tied: whether the head shares the embeddings' weights.
    """

    layers: int
    width: int
    intermediate: int
    key_value: int
    vocabulary: int
    tied: bool = True

    @property
    def linear(self) -> Mapping[str, tuple[int, int]]:
        """Input and output width of every linear layer of a block."""
        d, kv, i = self.width, self.key_value, self.intermediate
        return {
            "q_proj": (d, d), "k_proj": (d, kv), "v_proj": (d, kv), "o_proj": (d, d),
            "gate_proj": (d, i), "up_proj": (d, i), "down_proj": (i, d),
        }  # fmt: skip

    @property
    def block(self) -> int:
        """Parameters of one block: linear layers and two norms."""
        return sum(rows * columns for rows, columns in self.linear.values()) + 2 * self.width

    @property
    def embeddings(self) -> int:
        """Parameters of the embeddings."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All parameters: blocks, final norm, embeddings, and a head of its own if untied."""
        outer = self.embeddings * (1 if self.tied else 2)
        return self.layers * self.block + self.width + outer


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
    return Shape(model.layers, model.width, model.intermediate, model.width, RANDOM_VOCABULARY)


def parameters(study: Study) -> int:
    """Return the number of parameters of the language model."""
    return shape(study).parameters


def activation_shape(study: Study) -> ModelShape:
    """Return the sizes that activations depend on: all heads together are as wide as the stream."""
    found = shape(study)
    return ModelShape(found.layers, found.width, found.width)


def connector_parameters(study: Study) -> int:
    """Return the numbers that a connector file holds: two linear layers, mean and scale."""
    width, channels = shape(study).width, encoder_channels(study)
    return channels * (width + 2) + width * (width + 2)


def number_bytes(study: Study) -> int:
    """Return the bytes of one weight while computing."""
    return {"float32": 4, "bfloat16": 2}[study.compute.precision]


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
    chosen = study.blocks(variant)
    blocks = sizes.layers if chosen is None else len(chosen)
    share = blocks / sizes.layers
    method = methods.method(settings.method)
    if hasattr(method, "tensors"):
        read = method.Options.model_validate_json(json.dumps(settings.options))
        found = method.tensors(read, sizes.linear, sizes.width)
        # PEFT keeps adapters of half-precision models in float32.
        return Learning(blocks * sum(found), 4, blocks * len(found), True, 0.0)
    count = sizes.parameters if settings.layers is None else blocks * sizes.block
    return Learning(count, number_bytes(study), TENSORS_PER_BLOCK * blocks + 2, False, share)


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


def image_tokens(study: Study) -> int:
    """Return the tokens of a picture."""
    return int(study.backbone.vision_encoder.grid**2)


def encoder_channels(study: Study) -> int:
    """Return the width of image features."""
    encoder = study.backbone.vision_encoder
    if isinstance(encoder, PackagedVisionEncoder):
        return registry.VISION_ENCODERS[encoder.name].channels
    return ENCODER_CHANNELS


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


def pictures(study: Study) -> int:
    """Return how many pictures the study draws: every concept in every style."""
    return concepts(study) * (len(study.concepts.seen_styles) + 1)


def probe_items(study: Study) -> int:
    """Return the rows of a probe set."""
    return min(study.probes.items, concepts(study))


def probes_read(study: Study, subject: str) -> list[str]:
    """Return the probe sets that a subject reads: the base model has no connector."""
    return [name for name in study.probes.sets if subject != "base" or name in TEXT_PROBES]


def tasks_asked(study: Study, subject: str) -> list[str]:
    """Return the benchmarks that a subject is asked: the base model reads text only."""
    return [name for name in study.benchmarks.tasks if subject != "base" or name in TEXT_TASKS]


def streams(study: Study, probe: str) -> int:
    """Return how many of the study's streams that geometry reads a probe set's inputs have."""
    absent = {"image_mean"} if probe in TEXT_PROBES else set()
    if probe == "pair_images":
        absent = {"text_mean"}
    return len(set(study.activations.streams) - absent - {"one", "all"})


def items(study: Study, task: str) -> int:
    """Return the items of a benchmark, all splits and conditions together."""
    counts = study.benchmarks
    return {
        "kind_image": 3 * counts.kind,
        "kind_text": 2 * counts.kind,
        "presence": 3 * 3 * 2 * (counts.presence // 2),
        "naming": 3 * counts.naming,
    }[task]
