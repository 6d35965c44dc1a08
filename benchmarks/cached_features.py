"""Times a training step with cached image features, and with the vision encoder run each step.

EfficientNet-Lite0 with random weights before a random Llama; only their shapes matter. The steps of
all settings take turns in one process. A frozen encoder in the step costs its forward pass for
nothing: it would give the same features each time. One that learns costs a backward pass as well,
through its last blocks or all of it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from layersight.data.batch import Batch
from layersight.data.conversation import IMAGE_TOKEN, Role
from layersight.models.connectors import Connector
from layersight.models.vision import load_efficientnet_lite0
from layersight.models.vision_tower import VisionTower
from layersight.models.vlm import VisionLanguageModel

SETTINGS = {
    "cached features": None,
    "encoder runs, frozen": "none",
    "encoder runs, last 2 blocks learn": 2,
    "encoder runs, all of it learns": "all",
}
_VOCABULARY = 8000


def _batch(arguments: argparse.Namespace, features: torch.Tensor) -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = arguments.rows, arguments.length
    ids = torch.randint(0, _VOCABULARY, shape, generator=generator)
    ids[:, 1 : 1 + features.shape[1]] = IMAGE_TOKEN
    labels = torch.full_like(ids, -100)
    labels[:, -8:] = ids[:, -8:]
    roles = torch.full(shape, int(Role.TEXT), dtype=torch.int8)
    return Batch(ids, torch.ones_like(ids), features, roles, labels)


def main() -> None:
    """Print seconds a step of every setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=384, help="a multiple of 64")
    parser.add_argument("--rows", type=int, default=4, help="conversations, each with a picture")
    parser.add_argument("--length", type=int, default=48)
    parser.add_argument("--side", type=int, default=224, help="of the pictures, in pixels")
    parser.add_argument("--grid", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    language_model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=_VOCABULARY,
            hidden_size=arguments.width,
            intermediate_size=arguments.width * 8 // 3,
            num_hidden_layers=arguments.layers,
            num_attention_heads=arguments.width // 64,
            num_key_value_heads=arguments.width // 64,
            tie_word_embeddings=True,
        )
    )
    tower = VisionTower(load_efficientnet_lite0(None), arguments.grid)
    model = VisionLanguageModel(
        language_model, Connector(tower.encoder.channels, arguments.width), tower
    ).train()
    shape = arguments.rows, arguments.side, arguments.side, 3
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
    with torch.no_grad():
        cached = _batch(arguments, tower(pixels))
    seen = replace(cached, features=None, pixels=pixels)

    def step(setting: str) -> float:
        what = SETTINGS[setting]
        tower.learn("none" if what is None else what)
        optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)
        start = time.monotonic()
        model.loss(cached if what is None else seen)[0].backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return time.monotonic() - start

    seconds: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    for setting in SETTINGS:
        step(setting)
    for _ in range(arguments.rounds):
        for setting in SETTINGS:
            seconds[setting].append(step(setting))
    print(f"{'':34} {'s a step':>9} {'of cached':>9}")
    for setting, taken in seconds.items():
        # Paired: the ratio to the same round's step, and the median over the rounds.
        ratio = statistics.median(
            mine / base for mine, base in zip(taken, seconds["cached features"], strict=True)
        )
        print(f"{setting:34} {statistics.median(taken):9.3f} {ratio:9.2f}")


if __name__ == "__main__":
    main()
