"""Measures, in at most eight minutes on one GPU, what the library gets out of it.

- product: the rate of a bfloat16 matrix product, which the rest is compared with.
- training: steps (forward, backward, clipping, AdamW) of blocks in the shape of Llama 7B and of a
  whole model in the shape of TinyLlama 1.1B, as a share of that rate. Weights are random and kept
  in float32, and the computing is in bfloat16, as the trainer does it.
- capture: the streams of every layer, brought to the CPU, beside the bare forward pass.
- patching: a sweep as a prefix tree beside the same windows one by one.
- graph: the exact neighbours beside the float32 product that they need.

Models are random: only their shapes matter for the time. `--quick` takes shapes of no interest, to
see that the script runs; without a GPU nothing else is possible. Needs the library (set
`PYTHONPATH=workflow` where it is not installed), torch, transformers and accelerate.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from gpu_pages import Figure, page, write
from gpu_shapes import FULL, QUICK, Shape, Sizes
from neighbour_graph import cloud, product
from transformers import AutoModelForCausalLM, LlamaConfig

from layersight.activations.capture import capture
from layersight.data.batch import Batch
from layersight.data.conversation import IMAGE_TOKEN, Role
from layersight.geometry.neighbours import nearest_neighbours
from layersight.interventions.hybrid import Hybrid, block_runs, run_hybrids
from layersight.interventions.windows import windows
from layersight.models.connectors import Connector
from layersight.models.vlm import VisionLanguageModel
from layersight.tuning.runtime import Runtime

DOCS = Path(__file__).parents[1] / "docs/performance.md"
STREAMS = ["last", "image_mean", "text_mean"]
COMPUTED = torch.bfloat16


def sync(device: torch.device) -> None:
    """Wait until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(
    actions: dict[str, Callable[[], object]], device: torch.device, rounds: int
) -> dict[str, float]:
    """Return the median seconds of each action; they take turns, after one turn that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(rounds + 1):
        for name, action in actions.items():
            sync(device)
            start = time.perf_counter()
            action()
            sync(device)
            if turn:
                taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in taken.items()}


def make_model(
    shape: Shape, channels: int, device: torch.device, dtype: torch.dtype
) -> VisionLanguageModel:
    """Return a Llama with random weights and a connector, on the device."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        tie_word_embeddings=False,
    )
    with torch.device(device):
        language_model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        return VisionLanguageModel(language_model, Connector(channels, shape.width).to(dtype))


def make_batch(
    sizes: Sizes, shape: Shape, at: tuple[int, int], device: torch.device
) -> tuple[Batch, int]:
    """Return rows of a picture, a question and an answer of a tenth, and the answers' tokens."""
    rows, length = at
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, shape.vocabulary, at, generator=generator)
    roles = torch.full(at, int(Role.TEXT), dtype=torch.int8)
    image = slice(2, 2 + sizes.image)
    ids[:, image], roles[:, image] = IMAGE_TOKEN, int(Role.IMAGE)
    answers = length // 10
    labels = torch.full(at, -100)
    labels[:, -answers:] = ids[:, -answers:]
    features = torch.randn(rows, sizes.image, sizes.channels, generator=generator)
    batch = Batch(ids, torch.ones_like(ids), features, roles, labels).to(device)
    return batch, rows * answers


def matrix_rate(sizes: Sizes, device: torch.device) -> float:
    """Return the operations per second of a matrix product in bfloat16."""
    n, repeats = sizes.side, 10
    a, b = (torch.randn(n, n, device=device, dtype=COMPUTED) for _ in range(2))

    def several() -> None:
        for _ in range(repeats):
            a @ b

    return 2.0 * n**3 * repeats / seconds_of({"it": several}, device, sizes.rounds)["it"]


def training(
    name: str, shape: Shape, sizes: Sizes, device: torch.device, rate: float
) -> Iterator[Figure]:
    """Time steps as the trainer takes them."""
    model = make_model(shape, sizes.channels, device, torch.float32)
    runtime = Runtime(device, "bfloat16")
    runtime.place(model)
    learning = list(model.parameters())
    optimiser = runtime.optimiser([{"params": learning, "lr": 1e-5, "weight_decay": 0.0}])
    batch, answers = make_batch(sizes, shape, sizes.train, device)
    model.train()

    def step() -> None:
        loss, _ = runtime.loss(batch)
        runtime.backward(loss)
        runtime.step(optimiser, learning, 1.0)
        runtime.finish(optimiser)

    seconds = seconds_of({"it": step}, device, sizes.rounds)["it"]
    reached = shape.training_flops(*sizes.train, answers) / seconds
    rows, length = sizes.train
    yield Figure(
        f"training step, {name}, {rows} rows of {length} tokens",
        f"{seconds:.3f} s, {rows * length / seconds:,.0f} tokens/s, {reached / 1e12:.4g} TFLOP/s: "
        f"{reached / rate:.0%} of the product's rate",
    )


@torch.inference_mode()
def reading(sizes: Sizes, device: torch.device) -> Iterator[Figure]:
    """Time capture beside the bare forward pass."""
    shape = sizes.large
    model = make_model(shape, sizes.channels, device, COMPUTED).eval()
    batch, _ = make_batch(sizes, shape, sizes.read, device)

    def captured() -> None:
        found, _ = capture(model, batch, STREAMS)
        found["residual"].pooled.cpu()

    found = seconds_of(
        {"bare": lambda: model.hidden(batch), "capture": captured}, device, sizes.rounds
    )
    yield Figure(
        f"forward pass of {shape.layers} blocks of width {shape.width}, {sizes.read[0]} rows of "
        f"{sizes.read[1]} tokens; with capture of {len(STREAMS)} streams of every layer",
        f"{found['bare']:.3f} s; {found['capture'] / found['bare']:.3f} times that",
    )


@torch.inference_mode()
def patching(sizes: Sizes, device: torch.device) -> Iterator[Figure]:
    """Time a sweep as a prefix tree, and window by window."""
    shape = sizes.large
    target, donor = (
        make_model(shape, sizes.channels, device, COMPUTED).eval() for _ in range(2)
    )  # fmt: skip
    batch, _ = make_batch(sizes, shape, sizes.read, device)
    hybrids = [
        Hybrid(start, stop)
        for kind, width in (("cumulative", None), ("sliding", sizes.stride))
        for start, stop in windows(kind, shape.layers, sizes.stride, width)
    ]
    found = seconds_of(
        {
            "one": lambda: [run_hybrids(target, donor, batch, [hybrid]) for hybrid in hybrids],
            "tree": lambda: run_hybrids(target, donor, batch, hybrids),
        },
        device,
        min(sizes.rounds, 2),
    )
    runs = block_runs(hybrids, shape.layers)
    yield Figure(
        f"patching sweep of {len(hybrids)} windows over {shape.layers} blocks, one by one; as a "
        f"prefix tree",
        f"{found['one']:.2f} s, {len(hybrids) * shape.layers} block evaluations; "
        f"{found['tree']:.2f} s, {runs}: {found['one'] / found['tree']:.2f} times as fast",
    )


def product_seconds(x: np.ndarray, device: torch.device) -> dict[str, float]:
    """Return the seconds of the product of all pairs, whose vectors then leave the device."""
    there = torch.from_numpy(x).to(device)
    return seconds_of({"product": lambda: product(there)}, device, 2)


def graph(sizes: Sizes, device: torch.device) -> Iterator[Figure]:
    """Time the exact neighbours, and the bare product of the same vectors in float32."""
    rows, width = sizes.cloud
    x = cloud(rows, width)
    found = product_seconds(x, device)
    settled = []

    def search() -> None:
        settled.append(
            nearest_neighbours(
                x, sizes.k, device=device.type, memory_mb=8192, count_duplicates=False
            ).settled
        )

    found |= seconds_of({"graph": search}, device, 1)
    yield Figure(
        f"exact {sizes.k} neighbours of {rows:,} × {width:,}, from and to the CPU; product alone, "
        f"float32",
        f"{found['graph']:.2f} s ({settled[0][0]:,} rows settled in float32); "
        f"{found['product']:.2f} s: {found['product'] / found['graph']:.2f} of the graph's time",
    )


def measure(sizes: Sizes, device: torch.device, minutes: float) -> Iterator[Figure]:
    """Measure part by part; a part that the device has no memory or time for is said to be so."""
    start = time.monotonic()
    rate = matrix_rate(sizes, device)
    n = sizes.side
    yield Figure(f"matrix product {n} × {n} × {n}, bfloat16", f"{rate / 1e12:.4g} TFLOP/s")
    parts: dict[str, Callable[[], Iterator[Figure]]] = {
        "training of blocks": lambda: training(
            f"{sizes.blocks.layers} blocks of Llama 7B's shape", sizes.blocks, sizes, device, rate
        ),
        "training of a whole model": lambda: training(
            "whole model of TinyLlama 1.1B's shape", sizes.small, sizes, device, rate
        ),
        "capture": lambda: reading(sizes, device),
        "patching": lambda: patching(sizes, device),
        "neighbours": lambda: graph(sizes, device),
    }
    for name, part in parts.items():
        # None takes a quarter of the time on the GPUs that this is made for.
        if time.monotonic() - start > 45 * minutes:
            yield Figure(name, f"not measured: {minutes:g} minutes were nearly over")
            continue
        try:
            yield from part()
        except torch.cuda.OutOfMemoryError:
            yield Figure(name, "not measured: the device has too little memory")
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def name_of(device: torch.device) -> str:
    """Return the device's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU ({platform.machine()})"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny shapes: does the script run?")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument(
        "--write", type=Path, nargs="?", const=DOCS, help="put the figures into docs/performance.md"
    )
    asked = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not asked.quick:
        raise SystemExit("torch sees no GPU here: --quick shows whether the script runs")
    if asked.write and asked.quick:
        raise SystemExit("--quick measures nothing of interest: it is not written")
    figures = []
    for figure in measure(QUICK if asked.quick else FULL, device, asked.minutes):
        print(f"{figure.name}: {figure.found}", flush=True)
        figures.append(figure)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    if asked.write:
        write(asked.write, name_of(device), page(versions, time.strftime("%Y-%m-%d"), figures))


if __name__ == "__main__":
    main()
