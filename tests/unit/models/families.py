"""Tiny random models of the families that capture knows, saved and loaded by transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

LAYERS, WIDTH, HEADS, VOCABULARY = 3, 32, 4, 90
_COMMON = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
}
_GROUPED = {**_COMMON, "num_key_value_heads": 2}
_OPT = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "ffn_dim": 48,
    "word_embed_proj_dim": WIDTH,
}
FAMILIES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("llama", _GROUPED),
    "mistral": ("mistral", {**_GROUPED, "head_dim": 12}),
    "qwen2": ("qwen2", _GROUPED),
    "qwen3": ("qwen3", {**_GROUPED, "head_dim": 16}),
    "gemma": ("gemma", {**_GROUPED, "head_dim": 10}),
    "phi": ("phi", _COMMON),
    "gpt2": ("gpt2", {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}),
    "gpt_neox": ("gpt_neox", _COMMON),
    "gpt_neox-sequential": ("gpt_neox", {**_COMMON, "use_parallel_residual": False}),
    "opt": ("opt", _OPT),
    "opt-without-final-norm": ("opt", {**_OPT, "_remove_final_layer_norm": True}),
    "opt-norm-after": ("opt", {**_OPT, "do_layer_norm_before": False}),
    "opt-narrow-embeddings": (
        "opt",
        {**_OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 20},
    ),
}


def tiny_of(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Make a model of a family with weights that matter, save it, and load what was saved."""
    kind, sizes = FAMILIES[name]
    config = AutoConfig.for_model(
        kind,
        vocab_size=VOCABULARY,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **sizes,
    )
    torch.manual_seed(len(name))
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Also biases and norms, which begin as zeros and ones.
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval().requires_grad_(False)
