"""What a checkpoint's own small files say: its family, its sizes, how it reads pictures, its chat.

No weight and no library is loaded: a dry run reads this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LANGUAGE_FAMILIES = (
    "llama", "mistral", "qwen2", "qwen3", "phi", "phi3", "gemma", "gemma2", "stablelm",
)  # fmt: skip
"""`model_type` of the causal language models that are known to work."""
_VISION_TYPES = {
    "clip": "clip", "clip_vision_model": "clip", "siglip": "siglip",
    "siglip_vision_model": "siglip", "dinov2": "dinov2",
}  # fmt: skip
_TIED_BY_DEFAULT = ("gemma", "gemma2")
# Defaults of transformers' configurations: published files leave out what equals them.
_VISION_DEFAULTS = {
    "clip": {
        "num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072, "patch_size": 32,
        "image_size": 224,
    },
    "siglip": {
        "num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072, "patch_size": 16,
        "image_size": 224,
    },
    "dinov2": {
        "num_hidden_layers": 12, "hidden_size": 768, "mlp_ratio": 4, "patch_size": 14,
        "image_size": 224,
    },
}  # fmt: skip
_READING = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "dinov2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and deviation of every channel, where a checkpoint does not say."""


FEATURE_TOKENS = {"clip": 1, "siglip": 0, "dinov2": 1}
"""Tokens before those of the patches: the class token, if the family has one."""


@dataclass(frozen=True)
class Reading:
    """How an encoder reads a picture.

    Attributes:
        size: side of the square that it reads, in pixels.
        mean: subtracted from every channel, where white is 1.
        deviation: by which every channel is then divided.
    """

    size: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


def read_config(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's configuration.

    Raises:
        ValueError: there is no readable config.json.
    """
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path}: no such file; expected a model as transformers saves it"
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: must hold one object")
    return found


def language_shape(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return a language model's family and sizes, as `study_backbone.LanguageShape` takes them.

    Raises:
        ValueError: no readable configuration, or none of a known family.
    """
    config = read_config(folder)
    family = config.get("model_type")
    if family not in LANGUAGE_FAMILIES:
        raise ValueError(
            f"{folder}/config.json: model_type is {family!r}, which is no language model known "
            f"here; known: {', '.join(LANGUAGE_FAMILIES)}"
        )
    try:
        heads = int(config["num_attention_heads"])
        width = int(config["hidden_size"])
        head = int(config.get("head_dim") or width // heads)
        groups = config.get("num_key_value_heads")
        return family, {
            "layers": int(config["num_hidden_layers"]),
            "width": width,
            "intermediate": int(config["intermediate_size"]),
            "query": heads * head,
            "key_value": (heads if groups is None else int(groups)) * head,
            "vocabulary": int(config["vocab_size"]),
            "tied": bool(config.get("tie_word_embeddings", family in _TIED_BY_DEFAULT)),
        }
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{folder}/config.json: no sizes of a language model ({error})") from None


def vision_shape(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return a vision encoder's family and sizes, as `study_backbone.VisionShape` takes them.

    Raises:
        ValueError: no readable configuration, or none of CLIP, SigLIP or DINOv2.
    """
    config = read_config(folder)
    model_type = config.get("model_type")
    family = _VISION_TYPES.get(str(model_type))
    if family is None:
        raise ValueError(
            f"{folder}/config.json: model_type is {model_type!r}, which is no vision encoder known "
            f"here: CLIP, SigLIP or DINOv2"
        )
    try:
        sizes = _VISION_DEFAULTS[family] | (config.get("vision_config") or config)
        width = int(sizes["hidden_size"])
        inside = width * int(sizes["mlp_ratio"]) if family == "dinov2" else None
        reading = picture_reading(folder, family, int(sizes["image_size"]))
        return family, {
            "layers": int(sizes["num_hidden_layers"]),
            "width": width,
            "intermediate": int(sizes["intermediate_size"]) if inside is None else inside,
            "patch": int(sizes["patch_size"]),
            "size": reading.size,
            "mean": list(reading.mean),
            "deviation": list(reading.deviation),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}/config.json: no sizes of a vision encoder ({error})") from None


def picture_reading(folder: Path, family: str, image_size: int) -> Reading:
    """Return how an encoder reads pictures, by its image processor's file or its family's ways.

    Args:
        folder: with `preprocessor_config.json` or `processor_config.json`; they may be missing.
        family: `clip`, `siglip` or `dinov2`.
        image_size: of the encoder's own configuration.

    Raises:
        ValueError: a file is not readable or asks for a square it does not give.
    """
    found: dict[str, Any] = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        path = folder / name
        if path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                found = content.get("image_processor", content)
            except (OSError, ValueError, AttributeError) as error:
                raise ValueError(f"{path}: not readable ({error})") from None
        if found.get("image_mean"):
            break
    mean, deviation = _READING[family]
    size: Any = found.get("size")
    if found.get("do_center_crop", "crop_size" in found) and found.get("crop_size"):
        size = found["crop_size"]
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    # DINOv2 was trained at 518 pixels in the end, and is read at 224.
    default = 224 if family == "dinov2" else image_size
    return Reading(
        int(size or default),
        _three(found.get("image_mean"), mean),
        _three(found.get("image_std"), deviation),
    )


def _three(values: Any, default: tuple[float, float, float]) -> tuple[float, float, float]:
    if values is None:
        return default
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def has_chat_template(folder: Path) -> bool:
    """Return whether a checkpoint's tokenizer brings a chat template of its own."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(isinstance(settings, dict) and settings.get("chat_template"))
