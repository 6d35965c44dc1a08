"""Times a training step of full tuning, of some blocks only, and of LoRA; and its peak memory.

Why restricted tuning saves less than its share of the blocks: count a block's forward pass as one
unit; its backward pass is two, one for the gradient of its input and one for those of its weights.
Of L blocks, full tuning takes 3 L units. If [a, b) learns and the connector too, every block still
runs and is crossed by the gradient on its way to the connector, and only L - (b - a) weight
gradients go: 2 L + (b - a). With a frozen connector (and vision encoder) the backward pass ends at
block a: L + (L - a) + (b - a) = 2 L + b - 2 a. For [6, 16) of 32 that is 77 % and 71 % of full
tuning, before what all of them share: head, embeddings, vision encoder and data. The paper that
tunes layers 6 to 16 of 32 alone reports 86 % of the time (Visual Instruction Tuning Aligns
Modalities through Abstraction, arXiv:2606.03871). LoRA on all blocks saves the weight gradients
(2 L) and pays for its own small products.

Memory goes by what learns (its gradient, and two moments of AdamW) and by what blocks keep for the
backward pass: blocks below a keep nothing where the connector is frozen.

Times are taken in turn in one process, one step of each setting a round. Peak memory is that of a
process of its own for each setting, less what it has once the library is imported.

The model is a random Llama; only its shape matters.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from layersight.data.batch import Batch
from layersight.data.conversation import IMAGE_TOKEN, Role
from layersight.models.connectors import Connector
from layersight.models.vlm import VisionLanguageModel
from layersight.tuning import methods

SETTINGS = ("full", "window, connector learns", "window, connector frozen", "lora")
_VOCABULARY = 8000
_CHANNELS = 1280
_IMAGE_TOKENS = 49


class Step:
    """A model as one setting trains it, and its batch.

    Args:
        setting: one of `SETTINGS`.
        base: the language model; becomes part of the step's.
        arguments: of the command line.
    """

    def __init__(self, setting: str, base: LlamaForCausalLM, arguments: argparse.Namespace) -> None:
        module = methods.method("lora" if setting == "lora" else "full")
        blocks = list(range(*arguments.window)) if setting.startswith("window") else None
        tuned = module.apply(base, module.Options(), blocks)
        connector = Connector(_CHANNELS, arguments.width)
        connector.requires_grad_(setting != "window, connector frozen")
        self.model = VisionLanguageModel(tuned, connector).to(arguments.device).train()
        self.learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(self.learning, lr=1e-5, fused=True)
        self.batch = _batch(arguments).to(torch.device(arguments.device))

    def run(self) -> float:
        """Take one step and return its seconds."""
        start = time.monotonic()
        self.model.loss(self.batch)[0].backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.batch.input_ids.is_cuda:
            torch.cuda.synchronize()
        return time.monotonic() - start


def _batch(arguments: argparse.Namespace) -> Batch:
    generator = torch.Generator().manual_seed(0)
    shape = arguments.rows, arguments.length
    ids = torch.randint(0, _VOCABULARY, shape, generator=generator)
    ids[:, 1 : 1 + _IMAGE_TOKENS] = IMAGE_TOKEN
    labels = torch.full_like(ids, -100)
    labels[:, -16:] = ids[:, -16:]
    roles = torch.full(shape, int(Role.TEXT), dtype=torch.int8)
    features = torch.randn(arguments.rows, _IMAGE_TOKENS, _CHANNELS, generator=generator)
    return Batch(ids, torch.ones_like(ids), features, roles, labels)


def _base(arguments: argparse.Namespace) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
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


def _peak() -> float:
    """Return the process's largest memory so far, in MB (10^6 bytes)."""
    # Not getrusage, whose maximum a process inherits from the one that started it.
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) * 1024 / 1e6
    raise OSError("/proc/self/status names no VmHWM; peak memory needs Linux")


def measure_memory(setting: str, arguments: argparse.Namespace) -> float:
    """Return what three steps of one setting take at most, in MB; for a process of its own."""
    before = _peak()
    step = Step(setting, _base(arguments), arguments)
    for _ in range(3):
        step.run()
    if arguments.device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return _peak() - before


def main() -> None:
    """Print a table: parameters that learn, seconds a step, peak memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=384, help="a multiple of 64")
    parser.add_argument("--window", type=int, nargs=2, default=(2, 6), metavar=("A", "B"))
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--memory-of", choices=SETTINGS, help="measure memory in this process")
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(measure_memory(arguments.memory_of, arguments))
        return
    steps = {setting: Step(setting, _base(arguments), arguments) for setting in SETTINGS}
    for step in steps.values():
        step.run()
    seconds: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
    for _ in range(arguments.rounds):
        for setting, step in steps.items():
            seconds[setting].append(step.run())
    learning = {s: sum(p.numel() for p in step.learning) / 1e6 for s, step in steps.items()}
    del steps
    print(f"blocks [{arguments.window[0]}, {arguments.window[1]}) of {arguments.layers}")
    print(f"{'':26} {'learn, M':>9} {'s a step':>9} {'of full':>8} {'peak, MB':>9} {'of full':>8}")
    memory_of_full = 0.0
    for setting in SETTINGS:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--memory-of", setting],
            check=True,
            capture_output=True,
            text=True,
        )
        memory = float(done.stdout)
        memory_of_full = memory_of_full or memory
        # Paired: the share of a round's full step, and the median over the rounds.
        share = statistics.median(
            mine / full for mine, full in zip(seconds[setting], seconds["full"], strict=True)
        )
        print(
            f"{setting:26} {learning[setting]:9.2f} {statistics.median(seconds[setting]):9.3f} "
            f"{share:8.0%} {memory:9.0f} {memory / memory_of_full:8.0%}"
        )


if __name__ == "__main__":
    main()
