"""Vision transformers of Hugging Face as vision encoders: CLIP, SigLIP and DINOv2."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from layersight.errors import AssetError
from layersight.models.checkpoints import FEATURE_TOKENS
from layersight.models.safe_files import check_model_folder

if TYPE_CHECKING:
    from layersight.study_backbone import FolderVisionEncoder, HubVisionEncoder

Family = Literal["clip", "siglip", "dinov2"]
_CLASSES = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel", "dinov2": "Dinov2Model"}
_MODEL_TYPES = {
    "clip": "clip", "clip_vision_model": "clip", "siglip": "siglip",
    "siglip_vision_model": "siglip", "dinov2": "dinov2",
}  # fmt: skip
# What a checkpoint of pictures and words holds besides the vision encoder.
_OF_WORDS = ("text_model.", "logit_scale", "logit_bias", "text_projection", "visual_projection")


class TransformerEncoder(nn.Module):
    """The part of a vision transformer that its features pass through.

    Blocks above the chosen layer, and what follows them (norm, pooling), are left out.

    Args:
        model: of transformers; its modules are taken over.
        family: which it is.
        layer: whose output gives the features, as an index of transformers' `hidden_states`: 0 is
            the input of block 0, -1 the last block's output, before any final norm. LLaVA takes -2.
        feature: `patch` drops the class token, `cls_patch` keeps it before the patches.
        size: side of the pictures that it reads, in pixels.
        mean: subtracted from each channel, where white is 1.
        deviation: each channel is then divided by it.

    Attributes:
        channels: width of a feature.
        tokens: features of one picture.

    Raises:
        ValueError: no such layer, or no class token to keep.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self,
        model: Any,
        family: Family,
        *,
        layer: int,
        feature: Literal["patch", "cls_patch"],
        size: int,
        mean: Sequence[float],
        deviation: Sequence[float],
    ) -> None:
        super().__init__()
        name = "layer" if family == "dinov2" else "layers"
        blocks = getattr(model.encoder, name)
        used = blocks_used(len(blocks), layer)
        if feature == "cls_patch" and not FEATURE_TOKENS[family]:
            raise ValueError(f"select_feature: {family} has no class token to keep: take patch")
        setattr(model.encoder, name, blocks[:used])
        self.family = family
        self.size = size
        self.channels = int(model.config.hidden_size)
        self._dropped = FEATURE_TOKENS[family] if feature == "patch" else 0
        patches = (size // int(model.config.patch_size)) ** 2
        self.tokens = patches + FEATURE_TOKENS[family] - self._dropped
        self._interpolates = family != "dinov2" and size != int(model.config.image_size)
        self.embeddings = model.embeddings
        self.first_norm = model.pre_layrnorm if family == "clip" else nn.Identity()
        self.encoder = model.encoder
        shape = (1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(shape), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(shape), persistent=False)

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks that features pass through."""
        found: nn.ModuleList = (
            self.encoder.layer if self.family == "dinov2" else self.encoder.layers
        )
        return found

    def leave_out_first(self) -> None:
        """Drop the first patch too, as transformers' LLaVA does with encoders without a class
        token (`vision_feature_select_strategy: default`)."""
        self._dropped += 1
        self.tokens -= 1

    def read_modules(self, last: int | None = None) -> list[nn.Module]:
        """Return the modules that image features pass through, in order.

        Args:
            last: only the last so many of the blocks; None gives all, with the embeddings.

        Raises:
            ValueError: there are fewer blocks.
        """
        blocks = list(self.blocks)
        if last is None:
            return [self.embeddings, self.first_norm, *blocks]
        if not 0 < last <= len(blocks):
            raise ValueError(
                f"the last {last} blocks, but features pass through {len(blocks)} blocks of the "
                f"vision encoder"
            )
        return blocks[len(blocks) - last :]

    def prepare(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn RGB images `(n, size, size, 3)` of uint8 into the model's `pixel_values`."""
        scaled = pixels.permute(0, 3, 1, 2).float() / 255.0
        return (scaled - self.mean) / self.deviation

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return features `(n, tokens, channels)` of RGB images `(n, size, size, 3)`, uint8."""
        return self.features(self.prepare(pixels))

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return features `(n, tokens, channels)` of prepared pixels `(n, 3, size, size)`."""
        more = {"interpolate_pos_encoding": True} if self._interpolates else {}
        embedded = self.first_norm(self.embeddings(pixel_values, **more))
        hidden: torch.Tensor = self.encoder(embedded).last_hidden_state
        return hidden[:, self._dropped :]


def blocks_used(blocks: int, layer: int) -> int:
    """Return how many of so many blocks the features of a layer pass through.

    Args:
        blocks: of the whole encoder.
        layer: index of transformers' `hidden_states`, which has one more entry than blocks.

    Raises:
        ValueError: no such layer, or one below every block.
    """
    used = layer if layer >= 0 else blocks + 1 + layer
    if not 0 < used <= blocks:
        raise ValueError(
            f"select_layer: {layer} is none of the vision encoder's {blocks} blocks: must be 1 to "
            f"{blocks}, or {-blocks} to -1"
        )
    return used


def load_transformer(
    settings: HubVisionEncoder | FolderVisionEncoder, folder: Path
) -> TransformerEncoder:
    """Return the vision encoder that a study names, float32, in evaluation mode.

    Args:
        settings: of the study, resolved.
        folder: of the checkpoint.

    Raises:
        AssetError: the checkpoint is another than the study says, or not whole.
    """
    model, family = load_vision_model(folder)
    sizes, config = settings.sizes, model.config
    if settings.family not in (None, family):
        raise AssetError(f"{folder}: is of the family {family!r}, the study says {settings.family}")
    for name, found in (
        ("layers", config.num_hidden_layers),
        ("width", config.hidden_size),
        ("patch", config.patch_size),
    ):
        if int(found) != getattr(sizes, name):
            raise AssetError(
                f"{folder}: has {found} as {name}, but backbone.vision_encoder.shape.{name} is "
                f"{getattr(sizes, name)}"
            )
    try:
        return TransformerEncoder(
            model,
            family,
            layer=settings.select_layer,
            feature=settings.select_feature,
            size=sizes.size,
            mean=sizes.mean,
            deviation=sizes.deviation,
        ).eval()
    except ValueError as error:
        raise AssetError(f"{folder}: {error}") from None


def load_vision_model(folder: Path) -> tuple[Any, Family]:
    """Load the vision half of a checkpoint, float32, in evaluation mode, and its family.

    Args:
        folder: as transformers saves CLIP, SigLIP (whole, or their vision model alone) or DINOv2.

    Raises:
        AssetError: it is none of these, or not whole.
    """
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    check_model_folder(folder)
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    family: Any = _MODEL_TYPES.get(str(model_type))
    if family is None:
        raise AssetError(
            f"{folder}/config.json: model_type is {model_type!r}, which is no vision encoder known "
            f"here: CLIP, SigLIP or DINOv2"
        )
    try:
        model, found = getattr(transformers, _CLASSES[family]).from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError,
        StrictDataclassError,
    ) as error:  # fmt: skip
        raise AssetError(f"{folder}: no loadable vision encoder ({error})") from None
    for name, stored, wanted in sorted(found["mismatched_keys"]):
        raise AssetError(
            f"{folder}: the tensor {name} has the shape {tuple(stored)}, but config.json asks for "
            f"{tuple(wanted)}"
        )
    missing = sorted(found["missing_keys"])
    if missing:
        raise AssetError(
            f"{folder}: the tensor {missing[0]} is missing, which config.json asks for"
        )
    unknown = sorted(
        name
        for name in found["unexpected_keys"]
        if not name.startswith(_OF_WORDS) and not name.endswith("position_ids")
    )
    if unknown:
        raise AssetError(f"{folder}: the tensor {unknown[0]} belongs to nothing in config.json")
    return model.eval(), family
