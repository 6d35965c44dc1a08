"""What every method declares: the parameters that learn in a block of the tiny model."""

from __future__ import annotations

import re

LAYERS, WIDTH, INSIDE = 4, 32, 64
SQUARE = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
INTO = ["mlp.gate_proj", "mlp.up_proj"]
OUT = "mlp.down_proj"
LINEAR = {name: (WIDTH, WIDTH) for name in SQUARE} | {
    "mlp.gate_proj": (WIDTH, INSIDE),
    "mlp.up_proj": (WIDTH, INSIDE),
    OUT: (INSIDE, WIDTH),
}
LOW_RANK = {
    f"{name}.lora_{side}.default.weight": 2 * size
    for name, ends in LINEAR.items()
    for side, size in zip("AB", ends, strict=True)
}
FRAME = "steering_edit.default.frame.parametrizations.weight.original"
SOURCE = "steering_edit.default.source"
NORMS = ("input_layernorm", "post_attention_layernorm")

# method: (options, numbers in every parameter that learns in a block).
DECLARED: dict[str, tuple[dict[str, object], dict[str, int]]] = {
    "freeze": ({}, {}),
    "connector": ({}, {}),
    "full": (
        {},
        {f"{name}.weight": rows * columns for name, (rows, columns) in LINEAR.items()}
        | {f"{name}.weight": WIDTH for name in NORMS},
    ),
    "lora": ({"r": 2}, LOW_RANK),
    "qlora": ({"r": 2}, LOW_RANK),
    "ia3": (
        {},
        {f"self_attn.{name}.ia3_l.default": WIDTH for name in ("k_proj", "v_proj")}
        | {f"{OUT}.ia3_l.default": INSIDE},
    ),
    "oft": ({"r": 4}, {f"{name}.rotation_blocks.default": 4 * 8**2 for name in SQUARE[:3]}),
    "adapter": (
        {"bottleneck": 4},
        {
            f"{name}.bottleneck_{side}.default.weight": 4 * WIDTH
            for name in [*INTO, OUT]
            for side in ("down", "up")
        },
    ),
    "mores": (
        {"rank": 2, "first": 1, "last": 1},
        {FRAME: 2 * WIDTH, f"{SOURCE}.weight": 2 * WIDTH, f"{SOURCE}.bias": 2},
    ),
    "reft": (
        {"rank": 3},
        {FRAME: 3 * WIDTH, f"{SOURCE}.weight": 3 * WIDTH, f"{SOURCE}.bias": 3},
    ),
    "peft": (
        {"config": "LoHaConfig", "arguments": {"r": 2, "target_modules": ["q_proj"]}},
        {
            f"self_attn.q_proj.hada_w{one}_{side}.default": 2 * WIDTH
            for one in (1, 2)
            for side in "ab"
        },
    ),
}
OUTER = {"model.embed_tokens.weight", "model.norm.weight"}
"""What `full` lets learn beside the blocks; the tiny model's head is its embeddings."""


def learning(model):
    """Return the language model's parameters that learn, by name."""
    return {n: p for n, p in model.language_model.named_parameters() if p.requires_grad}


def declared(method, layers):
    """Return the numbers in every parameter that a method lets learn in these blocks, by name."""
    start = "" if method == "full" else "base_model.model."
    sizes = DECLARED[method][1]
    return {
        f"{start}model.layers.{layer}.{name}": size
        for layer in (range(LAYERS) if layers is None else layers)
        for name, size in sizes.items()
    }


def blocks_of(names):
    """Return the indices of the blocks that these parameters are in."""
    return {int(re.search(r"\.layers\.(\d+)\.", name)[1]) for name in names}
