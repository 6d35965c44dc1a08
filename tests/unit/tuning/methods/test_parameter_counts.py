"""Trainable parameters of real model sizes are those of LLaVA Steering's Table 1, to the digit."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PhiConfig, PhiForCausalLM

from layersight.tuning import methods

SIZES = {
    "phi-2": (PhiForCausalLM, PhiConfig, 51200, 2560, 10240, 32),
    "vicuna-7b": (LlamaForCausalLM, LlamaConfig, 32000, 4096, 11008, 32),
    "vicuna-13b": (LlamaForCausalLM, LlamaConfig, 32000, 5120, 13824, 40),
}
LORA = {"r": 128, "lora_alpha": 256}


def weightless(size):
    model, config, vocabulary, width, inside, layers = SIZES[size]
    return model(
        config(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=inside,
            num_hidden_layers=layers,
            num_attention_heads=width // 128 if size != "phi-2" else 32,
            tie_word_embeddings=False,
        )
    )


@pytest.mark.parametrize(
    ("method", "options", "size", "count"),
    [
        ("full", {}, "phi-2", 2_779_683_840),
        ("full", {}, "vicuna-7b", 6_738_415_616),
        ("full", {}, "vicuna-13b", 13_015_864_320),
        ("lora", LORA, "phi-2", 188_743_680),
        ("lora", LORA, "vicuna-7b", 319_815_680),
        ("lora", LORA, "vicuna-13b", 500_695_040),
        ("ia3", {}, "phi-2", 491_520),
        ("ia3", {}, "vicuna-7b", 614_400),
        ("ia3", {}, "vicuna-13b", 962_560),
        ("oft", {}, "phi-2", 39_321_600),
        ("oft", {}, "vicuna-7b", 100_663_296),
        ("oft", {}, "vicuna-13b", 196_608_000),
        ("adapter", {}, "phi-2", 83_886_080),
        ("adapter", {}, "vicuna-7b", 201_326_592),
        ("adapter", {}, "vicuna-13b", 314_572_800),
        ("mores", {}, "phi-2", 163_872),
        ("mores", {"rank": 2}, "phi-2", 327_744),
        ("mores", {"rank": 4}, "phi-2", 655_488),
        ("mores", {"rank": 8}, "phi-2", 1_310_976),
        ("mores", {}, "vicuna-7b", 262_176),
        ("mores", {}, "vicuna-13b", 409_640),
    ],
)
def test_trainable_parameters_are_those_of_the_paper(method, options, size, count):
    module = methods.method(method)
    with torch.device("meta"):
        tuned = module.apply(weightless(size), module.Options(**options), None)
    assert sum(p.numel() for p in tuned.parameters() if p.requires_grad) == count
