"""Measures what activations cost: time beside bare forward passes, memory, file size, reading.

- time: the batches of a study's probe sets, once through the model alone and once with capture and
  writing, in turns within one process; the order of the two changes with every batch.
- memory: peak resident size of a process that stores N inputs, and of one that stores 10 N (the
  probe set ten times over); both run the same batches' sizes.
- size: bytes of the Parquet files over the bytes of their numbers.
- reading: one layer and stream with `ActivationStore.read`, over `numpy.load` of a file of the same
  bytes, both from the page cache, in turns.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from layersight.activations import dump
from layersight.activations.store import ActivationStore
from layersight.activations.streams import passes
from layersight.activations.writer import ActivationWriter
from layersight.data.collation import collate, length_sorted_batches
from layersight.data.features import FeatureStore
from layersight.data.rows import tokenized_rows
from layersight.models.subjects import Subject, load_subject
from layersight.storage.tables import read_table
from layersight.study import Study
from layersight.study_file import load_study


class Setting:
    """A study's subject, a probe set, and what is stored of it."""

    def __init__(self, arguments: argparse.Namespace, copies: int = 1) -> None:
        study = load_study(arguments.study)
        activations = {"streams": arguments.streams, "sites": arguments.sites}
        if arguments.rows_per_part:
            activations["rows_per_part"] = arguments.rows_per_part
        self.study: Study = study.model_copy(
            update={
                "activations": study.activations.model_copy(update=activations),
                "compute": study.compute.model_copy(
                    update={"measuring_threads": arguments.threads}
                ),
            }
        )
        stage = arguments.results / "models" / "aligned"
        self.subject: Subject = load_subject(
            self.study, "aligned", language_model=arguments.language_model, stage=stage
        )
        torch.set_num_threads(arguments.threads)
        self.store = FeatureStore.of(arguments.results / "features/image_features.safetensors")
        table = arguments.results / "data" / "probes" / f"{arguments.probe}.parquet"
        rows, images = tokenized_rows(self.study, table, self.subject.tokenizer, self.store.tokens)
        ids = read_table(table).column("item_id").to_pylist()
        count = arguments.items or len(rows)
        many = range(copies)
        self.inputs = dump._Inputs(
            [row for _ in many for row in rows[:count]],
            [image for _ in many for image in images[:count]],
            [f"{item}-{copy}" for copy in many for item in ids[:count]],
        )
        self.probe = arguments.probe
        self.runs = passes(
            [
                *self.study.activations.stored,
                *(["all"] if "all" in self.study.activations.streams else []),
            ]
        )
        lengths = [len(row.input_ids) for row in self.inputs.rows]
        self.batches = list(length_sorted_batches(lengths, self.study.evaluation.batch_size))
        self.shape = dump.model_shape(self.subject.model.language_model)

    def writer(self, folder: Path) -> ActivationWriter:
        """Return a writer on an empty folder."""
        return ActivationWriter(
            folder,
            layers=self.shape.layers + 1,
            width=self.shape.width,
            dtype=self.study.activations.dtype,
            rows_per_part=self.study.activations.rows_per_part,
        )

    @torch.inference_mode()
    def bare(self, chosen: np.ndarray) -> None:
        """Run a batch: make it, and run it forward once for every order of image and question."""
        batch = collate(
            [self.inputs.rows[i] for i in chosen],
            [self.inputs.images[i] for i in chosen],
            self.store,
            padding="left",
            pad_token=int(self.subject.tokenizer.pad_token_id),
        )
        for _ in self.runs:
            self.subject.model.hidden(batch)

    def captured(self, chosen: np.ndarray, writer: ActivationWriter) -> None:
        """Run a batch and store what is asked for."""
        for found in dump._batch(
            self.study, self.subject, self.probe, self.inputs, self.store, chosen, self.runs
        ):
            writer.add(
                found.item_ids,
                found.stream,
                found.tokens,
                found.vectors,
                roles=found.roles,
                heads=found.heads,
            )


def sizes_of(folder: Path) -> tuple[int, int]:
    """Return the bytes of the files, and of the numbers in them."""
    import pyarrow.parquet as pq

    files, numbers = 0, 0
    for path in folder.rglob("*.parquet"):
        files += path.stat().st_size
        with pq.ParquetFile(path) as file:
            vector = file.schema_arrow.field("vector").type
            each = vector.list_size * vector.value_type.bit_width // 8
            numbers += file.metadata.num_rows * each
    return files, numbers


def times(arguments: argparse.Namespace) -> None:
    """Print the time of capture over that of bare passes, and the size of what it wrote.

    Wall time and time of the processor, of all threads; where others use the machine, the latter
    counts. Ratios are taken within a pair, and the writing of the part at the end is shared out
    among the batches.
    """
    setting = Setting(arguments)
    setting.bare(setting.batches[-1])
    ways = ("bare", "captured")
    clocks = (time.perf_counter, time.process_time)
    taken = {way: np.zeros((0, 2)) for way in ways}
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        writer = setting.writer(Path(folder))
        for number in range(arguments.rounds):
            for index, chosen in enumerate(setting.batches):
                for way in ways if (index + number) % 2 else reversed(ways):
                    start = [clock() for clock in clocks]
                    if way == "bare":
                        setting.bare(chosen)
                    else:
                        setting.captured(chosen, writer)
                    each = np.array([clock() for clock in clocks]) - start
                    taken[way] = np.vstack([taken[way], each])
        start = [clock() for clock in clocks]
        writer.flush()
        last = np.array([clock() for clock in clocks]) - start
        files, numbers = sizes_of(Path(folder))
    written = last / taken["bare"].sum(0)
    ratios = np.median(taken["captured"] / taken["bare"], axis=0) + written
    sums = (taken["captured"].sum(0) + last) / taken["bare"].sum(0)
    print(
        f"{arguments.probe}, streams {' '.join(arguments.streams)}, sites "
        f"{' '.join(arguments.sites)}: {len(taken['bare'])} pairs of batches"
    )
    for column, name in enumerate(("wall", "processor")):
        print(
            f"  {name:10} bare {taken['bare'][:, column].sum():7.2f} s  with capture: median of "
            f"pairs {ratios[column]:.3f}, of the sums {sums[column]:.3f} "
            f"({written[column]:.3f} of it writing the part)"
        )
    print(f"  files {files / 1e6:.1f} MB, {files / numbers:.4f} of the numbers", flush=True)


def memory(arguments: argparse.Namespace) -> None:
    """Print the peak of this process, storing a probe set so many times over."""
    setting = Setting(arguments, arguments.measure_memory)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        writer = setting.writer(Path(folder))
        for chosen in setting.batches:
            setting.captured(chosen, writer)
        writer.flush()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"inputs": len(setting.inputs.rows), "peak_mb": round(peak, 1)}))


def reading(rows: int, width: int, arguments: argparse.Namespace) -> None:
    """Print the time of reading one layer over that of numpy.load."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((1, rows, width), dtype=np.float32)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        writer = ActivationWriter(
            Path(folder) / "a",
            layers=1,
            width=width,
            dtype="float32",
            rows_per_part=arguments.rows_per_part or 8192,
        )
        for start in range(0, rows, 16):
            chosen = vectors[:, start : start + 16]
            ids = [f"item-{start + row}" for row in range(chosen.shape[1])]
            for stream in ("last", "image_mean", "text_mean"):
                writer.add(ids, stream, [None] * len(ids), chosen)
        writer.flush()
        np.save(Path(folder) / "same.npy", vectors[0])
        store = ActivationStore(Path(folder) / "a")
        assert np.array_equal(store.read(0, "last")[1], vectors[0])
        parts = len(list((Path(folder) / "a").rglob("*.parquet")))
        taken: dict[str, list[float]] = {"read": [], "load": []}
        for _ in range(25):
            for name, found in taken.items():
                start_of = time.perf_counter()
                if name == "read":
                    store.read(0, "last")
                else:
                    np.load(Path(folder) / "same.npy")
                found.append(time.perf_counter() - start_of)
    ratio = statistics.median(a / b for a, b in zip(taken["read"], taken["load"], strict=True))
    print(
        f"{rows:6} x {width:4} float32 ({vectors.nbytes / 1e6:6.1f} MB, {parts} parts): "
        f"numpy.load {1e3 * statistics.median(taken['load']):7.2f} ms, "
        f"read {1e3 * statistics.median(taken['read']):7.2f} ms, {ratio:.2f} times",
        flush=True,
    )


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--study", type=Path, default=Path("config/studies/mini.yaml"))
    parser.add_argument("--results", type=Path, default=Path("results/mini"))
    parser.add_argument("--language-model", type=Path, help="folder of the converted model")
    parser.add_argument("--probe", default="visual_questions")
    parser.add_argument("--items", type=int, default=0, help="of the probe set; 0: all")
    parser.add_argument("--streams", nargs="+", default=["last", "image_mean", "text_mean"])
    parser.add_argument("--sites", nargs="+", default=["residual"])
    parser.add_argument("--rows-per-part", type=int, default=0, help="0: the study's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="folder for what is written")
    parser.add_argument("--what", nargs="+", default=["time", "memory", "reading"])
    parser.add_argument("--measure-memory", type=int, help="copies of the probe set, this process")
    arguments = parser.parse_args()
    if arguments.measure_memory:
        memory(arguments)
        return
    if "time" in arguments.what:
        times(arguments)
    if "memory" in arguments.what:
        peaks = []
        for copies in (1, 10):
            command = [sys.executable, __file__, *sys.argv[1:], "--measure-memory", str(copies)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            peaks.append(json.loads(done.stdout.splitlines()[-1]))
            print(peaks[-1], flush=True)
        print(f"peak of ten times the inputs: {peaks[1]['peak_mb'] / peaks[0]['peak_mb']:.3f}")
    if "reading" in arguments.what:
        for rows, width in ((128, 576), (2_000, 576), (10_000, 576), (2_000, 4096)):
            reading(rows, width, arguments)


if __name__ == "__main__":
    main()
