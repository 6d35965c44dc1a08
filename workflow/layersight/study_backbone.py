"""What a study says of its backbone: language model, vision encoder, connector, templates."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, StringConstraints, field_validator, model_validator

from layersight.models import registry
from layersight.models.checkpoints import FEATURE_TOKENS
from layersight.strict import Strict

Template = Literal["chat", "plain", "v1", "phi"]
LanguageFamily = Literal[
    "llama", "mistral", "qwen2", "qwen3", "phi", "phi3", "gemma", "gemma2", "stablelm"
]
VisionFamily = Literal["clip", "siglip", "dinov2"]
HubId = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$", max_length=96),
]
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Channel = Annotated[list[float], Field(min_length=3, max_length=3)]


class PackagedLanguageModel(Strict):
    """A base LLM that a package registry ships."""

    source: Literal["package"]
    name: str
    """One of the packaged models, see `layersight.models.registry`."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in registry.LANGUAGE_MODELS:
            known = ", ".join(registry.LANGUAGE_MODELS)
            raise ValueError(f"unknown language model {value!r}; known: {known}")
        return value

    @property
    def layers(self) -> int:
        """Number of blocks L."""
        return registry.LANGUAGE_MODELS[self.name].layers

    @property
    def width(self) -> int:
        """Size d of the residual stream."""
        return registry.LANGUAGE_MODELS[self.name].width


class RandomLanguageModel(Strict):
    """A tiny Llama with random weights. For tests only: its numbers mean nothing."""

    source: Literal["random"]
    layers: PositiveInt = 4
    width: PositiveInt = 48
    heads: PositiveInt = 4
    intermediate: PositiveInt = 96

    @model_validator(mode="after")
    def _divides(self) -> RandomLanguageModel:
        # Rotary positions turn pairs of a head's numbers.
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width: {self.width} cannot be shared by {self.heads} heads of an even size"
            )
        return self


class LanguageShape(Strict):
    """Sizes of a language model from a hub or a folder."""

    layers: PositiveInt
    """Number of blocks L."""
    width: PositiveInt
    """Size d of the residual stream."""
    intermediate: PositiveInt
    """Width of the feed-forward layer."""
    query: PositiveInt
    """Width of all queries together; most models have d."""
    key_value: PositiveInt
    """Width of all keys together, and of all values (less than that of queries if they are shared
    by groups)."""
    vocabulary: PositiveInt
    """Rows of the embeddings."""
    tied: bool
    """Whether the head shares the embeddings' weights."""


class _LanguageCheckpoint(Strict):
    family: LanguageFamily | None = None
    """Architecture that the checkpoint must have (`model_type` in its config.json); null takes
    what it has."""
    shape: LanguageShape | None = None
    """Sizes; null reads them from the checkpoint's config.json, or, for a known model that has not
    been fetched, from a table."""

    @property
    def sizes(self) -> LanguageShape:
        """Sizes, which loading a study file fills in.

        Raises:
            ValueError: they are not known.
        """
        if self.shape is None:
            raise ValueError("backbone.language_model.shape: required, but not given")
        return self.shape

    @property
    def layers(self) -> int:
        """Number of blocks L."""
        return self.sizes.layers

    @property
    def width(self) -> int:
        """Size d of the residual stream."""
        return self.sizes.width


class HubLanguageModel(_LanguageCheckpoint):
    """A base LLM on the Hugging Face hub, at one commit."""

    source: Literal["hub"]
    id: HubId
    """Name on the hub, `organisation/model`."""
    revision: Revision
    """The commit, 40 hexadecimal digits; branches and tags can move."""


class FolderLanguageModel(_LanguageCheckpoint):
    """A base LLM in a local folder, as transformers saves it, in safetensors."""

    source: Literal["folder"]
    path: Annotated[str, Field(min_length=1)]
    """The folder, with config.json, `*.safetensors` and the tokenizer's files."""


class PackagedVisionEncoder(Strict):
    """A vision encoder that a package registry ships."""

    source: Literal["package"]
    name: str
    """One of the packaged encoders, see `layersight.models.registry`."""
    grid: PositiveInt = 7
    """The feature map is averaged to grid × grid image tokens (7 keeps all at 224 pixels)."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in registry.VISION_ENCODERS:
            known = ", ".join(registry.VISION_ENCODERS)
            raise ValueError(f"unknown vision encoder {value!r}; known: {known}")
        return value

    @property
    def tokens(self) -> int:
        """Features of one picture."""
        return self.grid**2

    @property
    def channels(self) -> int:
        """Width of a feature."""
        return registry.VISION_ENCODERS[self.name].channels


class RandomVisionEncoder(Strict):
    """EfficientNet-Lite0 with random weights. For tests only."""

    source: Literal["random"]
    grid: PositiveInt = 2

    @property
    def tokens(self) -> int:
        """Features of one picture."""
        return self.grid**2

    @property
    def channels(self) -> int:
        """Width of a feature."""
        return 1280


class VisionShape(Strict):
    """Sizes of a vision encoder from a hub or a folder, and how it reads pictures."""

    layers: PositiveInt
    """Number of blocks."""
    width: PositiveInt
    """Width of a feature."""
    intermediate: PositiveInt
    """Width of the feed-forward layer."""
    patch: PositiveInt
    """Side of a patch, in pixels."""
    size: PositiveInt
    """Side of the square that is read, in pixels."""
    mean: Channel
    """Subtracted from red, green and blue, where white is 1."""
    deviation: Channel
    """By which they are then divided."""


class _VisionCheckpoint(Strict):
    family: VisionFamily | None = None
    """Architecture that the checkpoint must have; null takes what it has."""
    select_layer: int = -2
    """Layer whose output gives the features, as an index of transformers' `hidden_states`: -1 is
    the last block's output, before any final norm. LLaVA-1.5 takes -2."""
    select_feature: Literal["patch", "cls_patch"] = "patch"
    """`patch` drops the class token, `cls_patch` keeps it."""
    shape: VisionShape | None = None
    """Sizes, mean and deviation; null reads them from the checkpoint's config.json and
    preprocessor_config.json, or, for a known model that has not been fetched, from a table."""

    @property
    def sizes(self) -> VisionShape:
        """Sizes, which loading a study file fills in.

        Raises:
            ValueError: they are not known.
        """
        if self.shape is None:
            raise ValueError("backbone.vision_encoder.shape: required, but not given")
        return self.shape

    @property
    def tokens(self) -> int:
        """Features of one picture."""
        before = FEATURE_TOKENS[self.family or "clip"] if self.select_feature == "cls_patch" else 0
        return (self.sizes.size // self.sizes.patch) ** 2 + before

    @property
    def channels(self) -> int:
        """Width of a feature."""
        return self.sizes.width

    @model_validator(mode="after")
    def _has_them(self) -> Any:
        if self.select_feature == "cls_patch" and self.family == "siglip":
            raise ValueError("select_feature: siglip has no class token to keep: take patch")
        if self.shape is None:
            return self
        blocks = self.shape.layers
        used = self.select_layer if self.select_layer >= 0 else blocks + 1 + self.select_layer
        if not 0 < used <= blocks:
            raise ValueError(
                f"select_layer: {self.select_layer} is none of the vision encoder's {blocks} "
                f"blocks: must be 1 to {blocks}, or {-blocks} to -1"
            )
        if self.shape.size < self.shape.patch:
            raise ValueError(
                f"shape.size: {self.shape.size} pixels are less than a patch of {self.shape.patch}"
            )
        return self


class HubVisionEncoder(_VisionCheckpoint):
    """A vision encoder on the Hugging Face hub, at one commit: CLIP, SigLIP or DINOv2."""

    source: Literal["hub"]
    id: HubId
    """Name on the hub, `organisation/model`."""
    revision: Revision
    """The commit, 40 hexadecimal digits; branches and tags can move."""


class FolderVisionEncoder(_VisionCheckpoint):
    """A vision encoder in a local folder: CLIP, SigLIP or DINOv2, in safetensors."""

    source: Literal["folder"]
    path: Annotated[str, Field(min_length=1)]
    """The folder, with config.json, `*.safetensors` and preprocessor_config.json."""


class Connector(Strict):
    """What carries image features into the language model's input space."""

    kind: Literal["mlp2x_gelu", "mlp", "linear", "identity", "qformer", "resampler"] = "mlp2x_gelu"
    """`mlp2x_gelu`: two linear layers with GELU between them (Liu et al. 2023, LLaVA-1.5); `mlp`:
    `layers` of them; `linear`: one; `identity`: none, for features as wide as the language model.
    `qformer`: learned queries that read the features (Li et al. 2023, BLIP-2). `resampler`: learned
    latents that read features and themselves (Alayrac et al. 2022, Flamingo)."""
    normalise: bool = True
    """Standardise each feature channel over the training pictures first; LLaVA-1.5 does not."""
    layers: PositiveInt | None = None
    """Linear layers of `mlp`, blocks of `qformer` and `resampler`; null takes 2."""
    queries: PositiveInt | None = None
    """Image tokens that `qformer` and `resampler` make of a picture; null takes 32."""
    heads: PositiveInt | None = None
    """Attention heads of `qformer` and `resampler`; null takes 8."""
    size: PositiveInt | None = None
    """Width inside `qformer` and `resampler`; null takes 512."""

    @model_validator(mode="after")
    def _of_the_kind(self) -> Connector:
        known = _CONNECTOR_KEYS.get(self.kind, {})
        for key in ("layers", "queries", "heads", "size"):
            if getattr(self, key) is not None and key not in known:
                raise ValueError(f"{key}: is no key of the connector {self.kind}")
        own = self.settings
        if "heads" in own and own["size"] % own["heads"]:
            raise ValueError(f"size: {own['size']} cannot be shared by {own['heads']} heads")
        return self

    @property
    def settings(self) -> dict[str, int]:
        """What the kind needs besides its widths, with its defaults."""
        return {
            key: default if getattr(self, key) is None else getattr(self, key)
            for key, default in _CONNECTOR_KEYS.get(self.kind, {}).items()
        }

    def tokens(self, features: int) -> int:
        """Return how many image tokens a picture takes that has so many features."""
        return self.settings.get("queries", features)


_QUERYING = {"layers": 2, "queries": 32, "heads": 8, "size": 512}
_CONNECTOR_KEYS: dict[str, dict[str, int]] = {
    "mlp": {"layers": 2}, "qformer": _QUERYING, "resampler": _QUERYING,
}  # fmt: skip

LanguageModel = PackagedLanguageModel | RandomLanguageModel | HubLanguageModel | FolderLanguageModel
VisionEncoder = PackagedVisionEncoder | RandomVisionEncoder | HubVisionEncoder | FolderVisionEncoder


class Backbone(Strict):
    """Vision encoder + connector + base LLM."""

    language_model: LanguageModel = Field(discriminator="source")
    vision_encoder: VisionEncoder = Field(discriminator="source")
    connector: Connector = Connector()
    template: Template = "chat"
    """How conversations become text: the tokenizer's own chat template, or LLaVA's `plain`, `v1`
    or `phi`."""
    image_shape: Literal["square", "pad", "crop"] = "square"
    """How a picture that is no square becomes one: stretched, padded with the encoder's mean
    colour (as LLaVA-1.5 does), or its middle alone (as CLIP's image processor does)."""
    system_prompt: str | None = None
    """System message of every conversation; null leaves the template's own default."""

    @field_validator("system_prompt")
    @classmethod
    def _without_image(cls, value: str | None) -> str | None:
        if value is not None and "<image>" in value:
            raise ValueError("holds <image>: pictures stand in the user's turn alone")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Backbone:
        if self.connector.kind == "identity":
            channels, width = self.vision_encoder.channels, self.language_model.width
            if channels != width:
                raise ValueError(
                    f"backbone.connector.kind: the identity carries no {channels} channels of the "
                    f"vision encoder into a language model of width {width}; take linear or "
                    f"mlp2x_gelu"
                )
        return self

    @property
    def image_tokens(self) -> int:
        """Image tokens of one picture in the language model."""
        return self.connector.tokens(self.vision_encoder.tokens)
