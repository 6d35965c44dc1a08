"""Times the exact neighbour graph against the bare product it needs, and scikit-learn; its memory.

- bare: X Xᵀ in float32, block by block, and the top k of every row with torch: what any brute force
  must do, and no more (its neighbours are those of the largest products, not of the distances).
- graph: `nearest_neighbours`, whose answer is that of a float64 brute force.
- scikit-learn: `NearestNeighbors(algorithm="brute")` on float32, as exact as float32 is.

All take turns in one process; ratios are taken within a round. Memory is measured in a process of
its own, as the peak resident size beyond what it had before the search, data included there.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from layersight.geometry.neighbours import nearest_neighbours


def cloud(rows: int, width: int) -> np.ndarray:
    """Return vectors as a language model's: anisotropic, in clusters, one massive dimension."""
    rng = np.random.default_rng(0)
    spectrum = (1 + np.arange(width)) ** -0.5
    centres = rng.standard_normal((50, width), dtype=np.float32)
    x = centres[rng.integers(0, 50, rows)]
    x += rng.standard_normal((rows, width), dtype=np.float32)
    x *= spectrum.astype(np.float32) * 10
    x += 2
    x[:, 7] += 1000
    return x


def bare(x: torch.Tensor, k: int, block: int = 1024) -> None:
    """Multiply and select, block by block."""
    for start in range(0, len(x), block):
        products = x[start : start + block] @ x.T
        torch.topk(products, k + 1, dim=1, sorted=False)
    if x.is_cuda:
        torch.cuda.synchronize()


def product(x: torch.Tensor, block: int = 1024) -> None:
    """Multiply only."""
    for start in range(0, len(x), block):
        x[start : start + block] @ x.T
    if x.is_cuda:
        torch.cuda.synchronize()


def compare(arguments: argparse.Namespace) -> None:
    """Print seconds of each way, and their ratio to the bare product with top-k."""
    x = cloud(arguments.rows, arguments.width)
    on_device = torch.from_numpy(x).to(arguments.device)
    k = arguments.k

    def graph() -> None:
        found = nearest_neighbours(
            x, k, device=arguments.device, memory_mb=arguments.memory_mb, count_duplicates=False
        )
        settled.append(found.settled)

    settled: list[tuple[int, int, int]] = []
    ways: dict[str, Callable[[], None]] = {
        "bare product": lambda: product(on_device),
        "bare product and top k": lambda: bare(on_device, k),
        "graph": graph,
    }
    if arguments.scikit_learn:
        from sklearn.neighbors import NearestNeighbors

        ways["scikit-learn"] = lambda: (
            NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=arguments.threads)
            .fit(x)
            .kneighbors()
        )
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start = time.monotonic()
            way()
            seconds[name].append(time.monotonic() - start)
    print(f"{arguments.rows} x {arguments.width}, k = {k}, {arguments.device}")
    print(f"{'':24} {'s':>8} {'of bare':>8}")
    for name, taken in seconds.items():
        ratio = statistics.median(
            mine / base for mine, base in zip(taken, seconds["bare product and top k"], strict=True)
        )
        print(f"{name:24} {statistics.median(taken):8.2f} {ratio:8.2f}")
    print(f"rows proven in float32, in float64, by all distances: {settled[-1]}")


def resident() -> float:
    """Return the memory of this process in MB (10^6 bytes; Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def memory(arguments: argparse.Namespace) -> None:
    """Print what one search adds to the peak of this process, as one line of JSON."""
    x = cloud(arguments.rows, arguments.width)
    nearest_neighbours(x[:600], 5, device=arguments.device)
    before = resident()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    start = time.monotonic()
    nearest_neighbours(
        x, arguments.k, device=arguments.device, memory_mb=arguments.memory_mb,
        count_duplicates=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    facts = {
        "rows": arguments.rows,
        "width": arguments.width,
        "data_mb": round(x.nbytes / 1e6),
        "all_pairs_mb": round(4 * arguments.rows**2 / 1e6),
        "memory_mb": arguments.memory_mb,
        # The peak before counts only where it hides the search's own.
        "grown_mb": round(after - before, 1) if after > peak else f"below {peak - before:.1f}",
        "seconds": round(time.monotonic() - start, 1),
    }
    if arguments.device.startswith("cuda"):
        facts["on_device_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
    print(json.dumps(facts))


def main() -> None:
    """Compare times, then measure memory."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--k", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-mb", type=int, default=1024, help="of the search, in MiB")
    parser.add_argument("--memory-rows", type=int, default=50_000, help="0: measure no memory")
    parser.add_argument("--no-scikit-learn", dest="scikit_learn", action="store_false")
    parser.add_argument("--measure-memory", action="store_true", help="in this process")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure_memory:
        memory(arguments)
        return
    compare(arguments)
    if arguments.memory_rows:
        command = [sys.executable, __file__, "--measure-memory"]
        for name in ("width", "k", "device", "threads", "memory_mb"):
            command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
        subprocess.run([*command, "--rows", str(arguments.memory_rows)], check=True)


if __name__ == "__main__":
    main()
