"""Base language models: converted from packages, made at random for tests, loaded from folders."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from layersight.errors import AssetError
from layersight.models.checkpoints import read_config
from layersight.models.safe_files import check_model_folder
from layersight.storage.atomic import atomic_folder
from layersight.study import RandomLanguageModel

# What transformers raises for a folder that is not whole: there is no one type for it.
_UNLOADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError,
    SafetensorError, StrictDataclassError,
)  # fmt: skip

_EAGER_ONLY = {"gemma2"}
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def convert_gguf(source: Path, folder: Path) -> None:
    """Convert a packaged GGUF model to a Hugging Face folder of float32 safetensors, atomically.

    transformers de-quantises on loading but cannot save such a model, so that the weights move
    into a new model of the same configuration.

    Raises:
        AssetError: the file is missing, damaged or no Llama model.
    """
    if not source.is_file():
        raise AssetError(f"{source}: no such file in the unpacked package")
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, dtype=torch.float32
        )
    except (*_UNLOADABLE, IndexError, struct.error) as error:
        raise AssetError(f"{source}: no loadable GGUF model ({error})") from None
    if loaded.config.model_type != "llama":
        raise AssetError(f"{source}: holds a {loaded.config.model_type} model, expected llama")
    settings = loaded.config.to_dict()
    for key in ("quantization_config", "architectures", "_name_or_path"):
        settings.pop(key, None)
    clean = LlamaForCausalLM(LlamaConfig(**settings))
    clean.load_state_dict(loaded.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    with atomic_folder(folder) as beside:
        clean.save_pretrained(beside)
        tokenizer.save_pretrained(beside)


def make_random(
    settings: RandomLanguageModel, texts: Iterable[str], seed: int, folder: Path
) -> None:
    """Write a tiny Llama with random weights, and a tokenizer trained on the study's own texts.

    For tests only: nothing that it computes means anything.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
        pad_token=special[2],
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.width,
            intermediate_size=settings.intermediate,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            # Larger than the usual 0.02: a tiny model would otherwise be almost linear.
            initializer_range=0.2,
        )
    )
    with atomic_folder(folder) as beside:
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)


def load_language_model(
    folder: Path,
    *,
    dtype: torch.dtype,
    attention: str = "sdpa",
    quantization: object | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a language model and its tokenizer from a local folder, in evaluation mode.

    The tokenizer's `model_max_length` is at most the model's number of positions, and it has a
    token to pad with.

    Args:
        folder: as transformers saves a model.
        dtype: type of the weights.
        attention: implementation of attention; Gemma 2, which bends its scores, has `eager` only.
        quantization: transformers' quantisation settings; None loads the weights as they are.

    Raises:
        AssetError: the folder does not hold a model that transformers can load from safetensors,
            with exactly the tensors that its config.json asks for, and a fast tokenizer.
    """
    check_model_folder(folder)
    try:
        # Its type does not know of `output_loading_info`.
        model, found = cast(Any, AutoModelForCausalLM).from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=_attention(folder, attention),
            # A quantised model is made where its weights are read, and cannot move at will.
            **({} if quantization is None else {"device_map": {"": "cpu"}}),
            quantization_config=quantization,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            # Not to ignore them: they are refused below, by name.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except _UNLOADABLE as error:
        raise AssetError(f"{folder}: no loadable language model ({error})") from None
    _check_tensors(folder, found)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except _UNLOADABLE as error:
        raise AssetError(f"{folder}: no loadable tokenizer ({error})") from None
    if not tokenizer.is_fast:
        raise AssetError(f"{folder}: has no fast tokenizer; save one with a tokenizer.json")
    if tokenizer.pad_token is None:
        # Padding is masked out everywhere, so that any token serves.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise AssetError(f"{folder}: its tokenizer has no token to pad with")
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions:
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    return model.eval(), tokenizer


def _attention(folder: Path, wanted: str) -> str:
    """Return the implementation of attention that a model takes: some have one only."""
    try:
        family = read_config(folder).get("model_type")
    except ValueError:
        return wanted  # its own message says what is wrong
    return "eager" if family in _EAGER_ONLY else wanted


def _check_tensors(folder: Path, found: dict[str, Any]) -> None:
    """Refuse what transformers only warns of: tensors that are not those of the configuration."""
    for name, stored, wanted in sorted(found["mismatched_keys"]):
        raise AssetError(
            f"{folder}: the tensor {name} has the shape {tuple(stored)}, but config.json asks for "
            f"{tuple(wanted)}"
        )
    for kind, problem in (
        ("missing_keys", "is missing, which config.json asks for"),
        ("unexpected_keys", "belongs to nothing that config.json names"),
    ):
        # Older versions saved the angles of rotary positions, which are computed.
        names = sorted(n for n in found[kind] if not n.endswith("rotary_emb.inv_freq"))
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise AssetError(f"{folder}: the tensor {names[0]} {problem}{more}")
