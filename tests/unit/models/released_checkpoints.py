"""Tiny released vision-language models with random weights, saved by transformers as published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tests.unit.models import tiny_checkpoints as tiny

_SIGLIP = {
    "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": tiny.SIDE, "patch_size": tiny.PATCH,
}  # fmt: skip
_QWEN_VISION = {"depth": 1, "hidden_size": 16, "num_heads": 2, "patch_size": 7}
_SECTIONS = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
OTHERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vipllava": ("llama", "VipLlava", {"vision_feature_layers": [-2, -1]}),
    "llava_next": ("llama", "LlavaNext", {"image_grid_pinpoints": [[28, 56]]}),
    "llava_onevision": ("qwen2", "LlavaOnevision", {"image_grid_pinpoints": [[28, 56]]}),
    "internvl": ("qwen2", "InternVL", {"vision_config": {
        "model_type": "internvl_vision", "hidden_size": 24, "intermediate_size": 48,
        "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": [28, 28],
        "patch_size": [7, 7]}}),
    "idefics3": ("llama", "Idefics3", {"vision_config": _SIGLIP}),
    "smolvlm": ("llama", "SmolVLM", {"vision_config": _SIGLIP}),
    "mistral3": ("mistral", "Mistral3", {"vision_config": {
        "model_type": "pixtral", "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8, "image_size": 28,
        "patch_size": 7}}),
    "qwen2_vl": ("qwen2", "Qwen2VL", {"vision_config": {
        "depth": 1, "embed_dim": 16, "hidden_size": tiny.WIDTH, "num_heads": 2, "patch_size": 7}}),
    "qwen2_5_vl": ("qwen2", "Qwen2_5_VL", {"vision_config": _QWEN_VISION | {
        "out_hidden_size": tiny.WIDTH, "intermediate_size": 16, "fullatt_block_indexes": [0]}}),
    "qwen3_vl": ("qwen3", "Qwen3VL", {"vision_config": _QWEN_VISION | {
        "out_hidden_size": tiny.WIDTH, "intermediate_size": 16, "deepstack_visual_indexes": [0],
        "num_position_embeddings": 16}}),
}  # fmt: skip
"""`model_type` to the family of its language model, the prefix of its classes, and settings."""


def write_base(folder: Path, family: str = "llama", **more: Any) -> Path:
    """Save a tiny base language model of a family with its tokenizer."""
    return tiny.write_language_model(folder, family, **more)


def write_llava(
    folder: Path, *, family: str = "llama", rows: int = 3, vision: Path | None = None,
    seed: int = 5, tokenizer: Any = None, changes: dict[str, Any] | None = None, **text: Any,
) -> Any:  # fmt: skip
    """Save a tiny LLaVA, its tokenizer with `<image>` and more rows of embeddings than tokens.

    Args:
        folder: where to.
        family: of its language model.
        rows: of embeddings beyond the tokens.
        vision: folder of the vision encoder that it keeps; None draws another one.
        seed: of its weights.
        tokenizer: another one than the base's.
        changes: to its configuration.
        text: changes to its language model's configuration.
    """
    tokenizer = tokenizer or tiny.tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    config = transformers.LlavaConfig(
        **{
            "vision_config": tiny.vision_config("clip"),
            "text_config": tiny.language_config(family, len(tokenizer) + rows, **text),
            "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
            "image_seq_length": (tiny.SIDE // tiny.PATCH) ** 2,
        }
        | (changes or {})
    )
    model = tiny.lively(transformers.LlavaForConditionalGeneration(config), seed)
    if vision is not None:
        kept = transformers.CLIPVisionModel.from_pretrained(vision)
        model.model.vision_tower.load_state_dict(kept.state_dict())
    model.save_pretrained(folder)
    tiny.image_processor("clip").save_pretrained(folder)
    transformers.LlavaProcessor(
        image_processor=tiny.image_processor("clip"),
        tokenizer=tokenizer,
        patch_size=tiny.PATCH,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=tiny.CHAT,
    ).save_pretrained(folder)
    return model


def write_other(folder: Path, model_type: str, rows: int = 5) -> Any:
    """Save a tiny released model of another kind of `OTHERS`, and the base's tokenizer."""
    family, prefix, settings = OTHERS[model_type]
    tokenizer = tiny.tiny_tokenizer()
    text = tiny.language_config(family, len(tokenizer) + rows).to_dict()
    for key in ("architectures", "transformers_version"):
        text.pop(key, None)
    if model_type.startswith("qwen"):
        text["rope_parameters"] = dict(_SECTIONS)
        text.pop("model_type")
    own = dict(settings)
    if model_type in ("vipllava", "llava_next"):
        own["vision_config"] = tiny.vision_config("clip")
    if model_type == "llava_onevision":
        own["vision_config"] = tiny.vision_config("siglip")
    config = getattr(transformers, f"{prefix}Config")(text_config=text, **own)
    model = getattr(transformers, f"{prefix}ForConditionalGeneration")(config)
    tiny.lively(model, 5).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def projector(channels: int, width: int = tiny.WIDTH, seed: int = 3) -> dict[str, torch.Tensor]:
    """The tensors of LLaVA's `mm_projector.bin`, under the names that its training saves."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "0.weight": (width, channels), "0.bias": (width,),
        "2.weight": (width, width), "2.bias": (width,),
    }  # fmt: skip
    return {
        f"model.mm_projector.{name}": 0.2 * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }
