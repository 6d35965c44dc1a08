"""Times a cumulative and a sliding sweep as a prefix tree and one hybrid at a time.

The model is a random Llama; only its shape matters for the time.
"""

from __future__ import annotations

import argparse
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from layersight.data.batch import Batch
from layersight.interventions.hybrid import Hybrid, block_runs, run_hybrids
from layersight.interventions.windows import windows
from layersight.models.vlm import VisionLanguageModel


def main() -> None:
    """Print seconds, and block evaluations, of both ways."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=36)
    parser.add_argument("--stride", type=int, default=5)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=arguments.width,
        intermediate_size=arguments.width * 8 // 3,
        num_hidden_layers=arguments.layers,
        num_attention_heads=9,
        num_key_value_heads=3,
    )
    target, donor = (VisionLanguageModel(LlamaForCausalLM(config), None).eval() for _ in range(2))
    ids = torch.randint(0, 1000, (arguments.rows, arguments.length))
    batch = Batch(ids, torch.ones_like(ids), None, torch.ones_like(ids, dtype=torch.int8))
    hybrids = [
        Hybrid(start, stop)
        for kind, width in (("cumulative", None), ("sliding", arguments.stride))
        for start, stop in windows(kind, arguments.layers, arguments.stride, width)
    ]
    for name, groups in (("prefix tree", [hybrids]), ("one by one", [[h] for h in hybrids])):
        run_hybrids(target, donor, batch, groups[0])
        start_time = time.monotonic()
        for group in groups:
            run_hybrids(target, donor, batch, group)
        blocks = sum(block_runs(group, arguments.layers) for group in groups)
        print(f"{name}: {time.monotonic() - start_time:.2f} s, {blocks} block evaluations")


if __name__ == "__main__":
    main()
