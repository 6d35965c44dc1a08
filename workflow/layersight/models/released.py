"""Vision-language models that others have released: what their own configuration says of them.

Read when a study file is loaded, so that a pair that cannot be compared shows before any job. Only
small files are read; the weights are compared where they are taken (`models.released_weights`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layersight.models import published
from layersight.models.backbones import cache_of, checkpoint_folder, hub_folder
from layersight.models.checkpoints import FEATURE_TOKENS, picture_reading, read_config
from layersight.study import (
    FolderVisionEncoder,
    HubVisionEncoder,
    PackagedLanguageModel,
    RandomLanguageModel,
    Study,
)
from layersight.study_released import Released

_DYNAMIC = "it cuts a picture into tiles whose number depends on the picture"
_NATIVE = "it reads pictures in their own shape, and gives their tokens positions in two dimensions"
KINDS: dict[str, tuple[str, str | None]] = {
    "llava": ("llama", None),
    "vipllava": ("llama", "it reads several layers of its vision encoder at once"),
    "llava_next": ("llama", _DYNAMIC),
    "llava_onevision": ("qwen2", _DYNAMIC),
    "internvl": ("qwen2", _DYNAMIC),
    "idefics3": ("llama", _DYNAMIC),
    "smolvlm": ("llama", _DYNAMIC),
    "mistral3": ("mistral", "it reads pictures in their own shape"),
    "qwen2_vl": ("qwen2", _NATIVE),
    "qwen2_5_vl": ("qwen2", _NATIVE),
    "qwen3_vl": ("qwen3", f"{_NATIVE} and features in several blocks"),
}
"""`model_type` to the usual family of its language model, and why the assembled model cannot read
pictures as it does (None: it can)."""
TEXT_FAMILIES = {
    "qwen2_vl_text": "qwen2", "qwen2_vl": "qwen2", "qwen2_5_vl_text": "qwen2",
    "qwen2_5_vl": "qwen2", "qwen3_vl_text": "qwen3",
}  # fmt: skip
"""Language models whose blocks are those of another family; on text they compute the same."""
# Defaults of transformers' configurations: published files leave out what equals them.
_LANGUAGE_DEFAULTS = {
    "llama": {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 11008},
    "mistral": {"num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336},
}
_VISION_DEFAULTS = {
    # Of LLaVA's configuration, which replaces CLIP's.
    "num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096, "patch_size": 14,
    "image_size": 336,
}  # fmt: skip
_VISION_FAMILIES = {"clip_vision_model": "clip", "siglip_vision_model": "siglip"}
_FEATURES = {"default": "patch", "full": "cls_patch"}
SIZES = {"layers": "num_hidden_layers", "width": "hidden_size", "intermediate": "intermediate_size"}


@dataclass(frozen=True)
class Text:
    """The language model inside a released model.

    Attributes:
        family: as `study_backbone.LanguageFamily`, where it is one.
        sizes: those of `SIZES` that are known without its weights.
    """

    family: str
    sizes: Mapping[str, int]


def text_of(model_type: str, config: Mapping[str, Any]) -> Text:
    """Return what a released model's configuration says of its language model.

    Args:
        model_type: one of `KINDS`.
        config: of its config.json; Qwen2-VL's has the language model's keys beside its own.
    """
    text = config.get("text_config") or {
        key: config[key] for key in SIZES.values() if key in config
    }
    named = str(text.get("model_type", KINDS[model_type][0]))
    family = TEXT_FAMILIES.get(named, named)
    known = _LANGUAGE_DEFAULTS.get(family, {}) | dict(text)
    return Text(family, {key: int(known[name]) for key, name in SIZES.items() if name in known})


def check(study: Study) -> None:
    """Compare what the study takes from released models with its backbone.

    What is not fetched yet is compared where it is known (`published.RELEASED`), and for the rest
    once it is fetched.

    Raises:
        ValueError: a released model that the study cannot be compared with; the message begins with
            the study's key.
    """
    cache = cache_of(study.model_dump())
    for name, variant in study.variants.items():
        if variant.released is not None:
            check_variant(study, name, checkpoint_folder(variant.released.model_dump(), cache))
    if study.align.released is not None:
        check_connector(study, connector_folder(study, cache))


def connector_folder(study: Study, cache: Path) -> Path:
    """Return where the released connector lies, or will lie, once it is fetched.

    One from the hub has a folder of its own, without the rest of its model, unless the study takes
    that model as a subject as well.

    Args:
        study: with `align.released`.
        cache: folder shared between studies.
    """
    asked = study.align.released
    if asked is None:
        raise ValueError("the study trains its connector")
    if asked.source == "folder":
        return checkpoint_folder(asked.model_dump(), cache)
    name, commit = str(asked.id), str(asked.revision)
    whole = hub_folder(name, commit, cache)
    subjects = [variant.released for variant in study.variants.values()]
    taken = any(found and (found.id, found.revision) == (name, commit) for found in subjects)
    return whole if taken else whole.with_name(f"{whole.name}-connector")


def check_variant(study: Study, name: str, folder: Path) -> None:
    """Compare a variant's released model with the study's backbone.

    Args:
        study: the study.
        name: of the variant.
        folder: of its checkpoint; one from the hub need not be there yet.

    Raises:
        ValueError: it cannot be compared.
    """
    variant = study.variants[name]
    released, key = variant.released, f"variants.{name}.options"
    if released is None:
        raise ValueError(f"{key}: names no released model")
    config = _config(key, released, folder)
    if config is None:
        known = published.RELEASED.get(str(released.id))
        if known is not None:
            _same_language_model(study, key, released.words, Text(known.family, known.sizes))
        return
    model_type = str(config.get("model_type"))
    if model_type not in KINDS:
        raise ValueError(
            f"{key}: {folder}/config.json: model_type is {model_type!r}, which is no released "
            f"model known here; known: {', '.join(KINDS)} (of LLaVA the checkpoints of llava-hf, "
            f"of InternVL those whose names end in -hf)"
        )
    _same_language_model(study, key, str(folder), text_of(model_type, config))
    if variant.reads_pictures:
        why = KINDS[model_type][1] or why_not_pictures(study, folder, config)
        if why:
            raise ValueError(
                f"{key}.inputs: {folder} cannot be measured on pictures here: {why}; "
                f"`inputs: text` compares its language model alone, on text"
            )


def why_not_pictures(study: Study, folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return why the study's backbone does not read pictures as a LLaVA does; None if it does.

    Args:
        study: the study.
        folder: of the LLaVA checkpoint.
        config: of its config.json.
    """
    encoder = study.backbone.vision_encoder
    if not isinstance(encoder, HubVisionEncoder | FolderVisionEncoder):
        return "it has a vision transformer, and backbone.vision_encoder is EfficientNet"
    if study.backbone.connector.tokens(encoder.tokens) != encoder.tokens:
        return "it makes an image token of every feature, and backbone.connector does not"
    vision = config.get("vision_config") or {}
    family = _VISION_FAMILIES.get(vision.get("model_type", "clip_vision_model"))
    if family is None:
        return f"its vision encoder is a {vision['model_type']}"
    sizes = (_VISION_DEFAULTS if family == "clip" else {}) | dict(vision)
    own, layer = encoder.sizes, config.get("vision_feature_layer", -2)
    if not isinstance(layer, int):
        return f"it reads several layers of its vision encoder, {layer}"
    if config.get("projector_hidden_act", "gelu") != "gelu":
        return f"its connector has {config['projector_hidden_act']} where mlp2x_gelu has gelu"
    if not config.get("multimodal_projector_bias", True):
        return "its connector has no biases, which mlp2x_gelu has"
    reading = picture_reading(folder, family, int(sizes.get("image_size", own.size)))
    pairs: list[tuple[str, Any, Any]] = [
        ("family", encoder.family, family),
        ("shape.layers", own.layers, sizes.get("num_hidden_layers", own.layers)),
        ("shape.width", own.width, sizes.get("hidden_size", own.width)),
        ("shape.patch", own.patch, sizes.get("patch_size", own.patch)),
        ("shape.size", own.size, reading.size),
        ("shape.mean", own.mean, list(reading.mean)),
        ("shape.deviation", own.deviation, list(reading.deviation)),
        ("select_layer", _used(own.layers, encoder.select_layer), _used(own.layers, layer)),
    ]
    for key, ours, theirs in pairs:
        if ours != theirs:
            return f"its vision encoder has {theirs} where backbone.vision_encoder.{key} is {ours}"
    feature = _FEATURES[config.get("vision_feature_select_strategy", "default")]
    if not FEATURE_TOKENS[family]:
        # LLaVA's `default` drops the first token, and SigLIP's first is a patch.
        return "it drops the first patch of a picture" if feature == "patch" else None
    if encoder.select_feature != feature:
        return (
            f"it reads the features {feature}, and backbone.vision_encoder.select_feature is "
            f"{encoder.select_feature}"
        )
    return None


def check_connector(study: Study, folder: Path) -> None:
    """Compare the configuration beside a released connector, if there is one, with the study.

    Args:
        study: with `align.released`.
        folder: of the connector's checkpoint; one from the hub need not be there yet.

    Raises:
        ValueError: it is of another kind or other widths.
    """
    asked, backbone, key = study.align.released, study.backbone, "align.released"
    if asked is None:
        raise ValueError(f"{key}: not given")
    if asked.source == "folder" and not folder.is_dir():
        raise ValueError(f"{key}.path: {folder}: no such folder")
    if not (folder / "config.json").is_file():
        return
    config = read_config(folder)
    found: tuple[Any, ...]
    channels, width = backbone.vision_encoder.channels, backbone.language_model.width
    if config.get("model_type") == "llava" and "text_config" in config:
        vision = _VISION_DEFAULTS | (config.get("vision_config") or {})
        found = ("mlp2x_gelu", vision["hidden_size"], text_of("llava", config).sizes.get("width"))
    else:
        found = tuple(
            config.get(name) for name in ("mm_projector_type", "mm_hidden_size", "hidden_size")
        )
    own: str = backbone.connector.kind
    if own == "mlp":
        own = f"mlp{backbone.connector.settings['layers']}x_gelu"
    for what, theirs, ours in (
        ("is of the kind", found[0], own),
        ("reads features of width", found[1], channels),
        ("makes embeddings of width", found[2], width),
    ):
        if theirs is not None and theirs != ours:
            raise ValueError(
                f"{key}: {folder} {what} {theirs}, but the study's backbone has {ours}"
            )


def _config(key: str, released: Released, folder: Path) -> dict[str, Any] | None:
    """Return the configuration of a released model; None if it is not fetched yet."""
    if folder.is_dir():
        return read_config(folder)
    if released.source == "folder":
        raise ValueError(f"{key}.path: {folder}: no such folder")
    return None


def _same_language_model(study: Study, key: str, where: str, text: Text) -> None:
    base = study.backbone.language_model
    family: str | None = "llama"
    ours: dict[str, int] = {"layers": base.layers, "width": base.width}
    if isinstance(base, RandomLanguageModel):
        ours["intermediate"] = base.intermediate
    elif not isinstance(base, PackagedLanguageModel):  # packaged ones are Llamas
        family, ours["intermediate"] = base.family, base.sizes.intermediate
    if family not in (None, text.family):
        raise ValueError(
            f"{key}: the language model of {where} is of the family {text.family!r}, but "
            f"backbone.language_model is of the family {family!r}; name the base language model "
            f"that it was tuned from"
        )
    for name, value in ours.items():
        theirs = text.sizes.get(name, value)
        if theirs != value:
            raise ValueError(
                f"{key}: the language model of {where} has {theirs} as {name}, but "
                f"backbone.language_model has {value}; name the base language model that it was "
                f"tuned from"
            )


def _used(blocks: int, layer: int) -> int:
    return layer if layer >= 0 else blocks + 1 + layer
