"""Times the metrics of a subject's layers on shared neighbour graphs against dadapy on the vectors.

For every layer of one stream: TwoNN, GRIDE at all scales, kNN density, density peaks on request,
label overlap and the overlap with the next layer, the last two for several k. Ours finds the
neighbours of a layer once and reads them for every metric. With dadapy each layer has a `Data` of
its own, whose distances are computed once (`compute_distances`) and kept for all of its own
metrics; an overlap with another layer computes what it needs itself. The values of both are
compared. No intervals: dadapy has none. The two take turns in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
import warnings

import numpy as np
import torch
from dadapy import Data

from layersight.geometry.density import density_peaks
from layersight.geometry.graph import NeighbourGraph, neighbour_graph
from layersight.geometry.graph_pairs import matched_neighbours
from layersight.geometry.intrinsic_dimension import gride, two_nn
from layersight.geometry.knn_density import knn_log_density
from layersight.geometry.overlap_curves import label_overlap_curve, overlap_curve

DENSITY_K = 16
Z = 1.65
Values = dict[str, np.ndarray]


def layers_of(rows: int, width: int, layers: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return clouds that drift from one to the next, in clusters, and the clusters."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, rows)
    spectrum = (1 + np.arange(width)) ** -0.7
    centres = rng.standard_normal((12, width))
    x = centres[labels] + rng.standard_normal((rows, width))
    found = []
    for _ in range(layers):
        x = x + 0.2 * rng.standard_normal((rows, width))
        found.append((10 * spectrum * x + 2).astype(np.float32))
    return found, labels


def ours(clouds: list[np.ndarray], labels: np.ndarray, arguments: argparse.Namespace) -> Values:
    """Measure all layers on shared graphs."""
    ids = np.arange(len(labels)).astype(str)
    before: NeighbourGraph | None = None
    found: dict[str, list[np.ndarray]] = {}
    for x in clouds:
        graph = neighbour_graph(ids, x, arguments.k)
        lengths = graph.lengths
        scales = [estimate.dimension for estimate in gride(lengths, 64)]
        density, _ = knn_log_density(lengths, scales[3], DENSITY_K)
        values = {
            "TwoNN": np.array(two_nn(lengths).dimension),
            "GRIDE": np.array(scales),
            "density": density,
            "label overlap": label_overlap_curve(graph.indices, labels, arguments.ks).mean(axis=0),
        }
        if arguments.peaks:
            peaks = density_peaks(graph.indices, lengths, k=DENSITY_K, z=Z, dimension=scales[3])
            values["peaks"] = np.array(len(peaks.peaks))
        if before is not None:
            both = matched_neighbours(before, graph)
            values["overlap"] = overlap_curve(both.in_a, both.in_b, arguments.ks).mean(axis=0)
        before = graph
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in found.items()}


def dadapys(clouds: list[np.ndarray], labels: np.ndarray, arguments: argparse.Namespace) -> Values:
    """Measure all layers with the library itself."""
    before: Data | None = None
    found: dict[str, list[np.ndarray]] = {}
    for cloud in clouds:
        x = cloud.astype(np.float64)
        data = Data(coordinates=x, maxk=arguments.k, n_jobs=arguments.threads)
        data.compute_distances(maxk=arguments.k)
        values = {"TwoNN": np.array(data.compute_id_2NN()[0])}
        values["GRIDE"] = data.return_id_scaling_gride(range_max=64)[0]
        data.set_id(values["GRIDE"][3])
        values["density"] = data.compute_density_kNN(DENSITY_K)[0]
        values["label overlap"] = np.array(
            [data.return_label_overlap(labels, k=k, weighted=False) for k in arguments.ks]
        )
        if arguments.peaks:
            data.compute_clustering_ADP(Z=Z)
            values["peaks"] = np.array(data.N_clusters)
        if before is not None:
            values["overlap"] = np.array(
                [before.return_data_overlap(coordinates=x, k=k) for k in arguments.ks]
            )
        before = data
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in found.items()}


def main() -> None:
    """Print seconds of both, their ratio, and how far the values differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--layers", type=int, default=31)
    parser.add_argument("--k", type=int, default=128, help="neighbours of the graph")
    parser.add_argument("--ks", type=int, nargs="+", default=[1, 2, 5, 10, 20, 30, 50, 100])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peaks", action="store_true", help="density peaks as well, on both sides")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    clouds, labels = layers_of(arguments.rows, arguments.width, arguments.layers)
    ways = {"layersight": ours, "dadapy": dadapys}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, Values] = {}
    for round_ in range(arguments.rounds + 1):
        for name, way in ways.items():
            start = time.monotonic()
            with contextlib.redirect_stdout(io.StringIO()):
                # The first round only warms up, on two layers.
                values[name] = way(clouds[: 2 if round_ == 0 else None], labels, arguments)
            if round_:
                seconds[name].append(time.monotonic() - start)
    print(f"{arguments.layers} layers of {arguments.rows} x {arguments.width}, k = {arguments.k}")
    for name, taken in seconds.items():
        print(f"{name:12} {statistics.median(taken):8.2f} s")
    ratios = [b / a for a, b in zip(seconds["layersight"], seconds["dadapy"], strict=True)]
    print(f"dadapy takes {statistics.median(ratios):.1f} times as long")
    for name, own in values["layersight"].items():
        print(f"{name:14} differs by at most {np.abs(own - values['dadapy'][name]).max():.1e}")


if __name__ == "__main__":
    main()
