"""Tiny checkpoints with random weights, each saved by transformers in its family's own format."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tests.conftest import QUESTIONS
from transformers import PreTrainedTokenizerFast

WIDTH, LAYERS, SIDE, PATCH = 32, 4, 28, 7
LANGUAGE = {
    "llama": ("Llama", {"num_key_value_heads": 2}),
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 8}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 16}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", {"num_key_value_heads": 2}),
    "gemma": ("Gemma", {"num_key_value_heads": 1, "head_dim": 16}),
    "gemma2": ("Gemma2", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8}),
    "stablelm": ("StableLm", {"num_key_value_heads": 4}),
}
"""Family to the prefix of its classes and what its configuration has besides the common sizes."""
VISION = {
    "clip": ("CLIPVision", {}),
    "siglip": ("SiglipVision", {}),
    "dinov2": ("Dinov2", {"mlp_ratio": 2}),
}
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tiny_tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer that learned the tests' questions."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(QUESTIONS * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=special[1], eos_token=special[2], pad_token=special[0]
    )
    tokenizer.chat_template = CHAT if chat else None
    return tokenizer


def lively(model: Any, seed: int = 0) -> Any:
    """Draw all matrices anew, so large that attention and gates do something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(0.2 * noise)
            else:
                # Norms and biases that are not as they were made show where one is left out.
                parameter.add_(0.1 * noise)
    return model.eval()


def language_config(family: str, vocabulary: int, **more: Any) -> Any:
    """The configuration of a tiny language model."""
    name, own = LANGUAGE[family]
    return getattr(transformers, f"{name}Config")(
        **(
            {
                "vocab_size": vocabulary,
                "hidden_size": WIDTH,
                "intermediate_size": 2 * WIDTH,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": 4,
                "max_position_embeddings": 256,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "pad_token_id": 0,
            }
            | own
            | more
        )
    )


def write_language_model(
    folder: Path, family: str, *, chat: bool = True, shard: str = "5GB", **more: Any
) -> Path:
    """Save a tiny language model of a family, in files of at most `shard`, and its tokenizer."""
    tokenizer = tiny_tokenizer(chat)
    config = language_config(family, len(tokenizer), **more)
    model = getattr(transformers, f"{LANGUAGE[family][0]}ForCausalLM")(config)
    lively(model).save_pretrained(folder, max_shard_size=shard)
    tokenizer.save_pretrained(folder)
    return folder


def vision_config(family: str, width: int = 24) -> Any:
    """The configuration of a tiny vision encoder."""
    name, own = VISION[family]
    return getattr(transformers, f"{name}Config")(
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        **own,
    )


def image_processor(family: str) -> Any:
    """The image processor that a family's published checkpoints have, for tiny pictures."""
    square = {"height": SIDE, "width": SIDE}
    if family == "siglip":
        return transformers.SiglipImageProcessorPil(size=square)
    if family == "dinov2":
        return transformers.BitImageProcessorPil(
            size={"shortest_edge": SIDE},
            crop_size=square,
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        )
    return transformers.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square)


def write_vision_encoder(
    folder: Path, family: str, *, width: int = 24, whole: bool = False
) -> Path:
    """Save a tiny vision encoder of a family and its image processor.

    `whole`: as CLIP and SigLIP are published, together with what reads words.
    """
    name, config = VISION[family][0], vision_config(family, width)
    if whole:
        name = name.removesuffix("Vision")
        config = getattr(transformers, f"{name}Config")(
            vision_config=config.to_dict(),
            text_config={
                "vocab_size": 50, "hidden_size": 16, "intermediate_size": 32,
                "num_hidden_layers": 1, "num_attention_heads": 2, "projection_size": 16,
            },
        )  # fmt: skip
    model = getattr(transformers, f"{name}Model")(config)
    lively(model, 1).save_pretrained(folder)
    image_processor(family).save_pretrained(folder)
    return folder


def pictures(count: int = 3, side: int = SIDE) -> np.ndarray:
    """Random pictures, `(count, side, side, 3)` uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
