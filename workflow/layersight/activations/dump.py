"""Dumping the activations of one subject on probe sets, from files to files."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from layersight import interruption
from layersight.activations.capture import capture
from layersight.activations.store import ActivationWriter
from layersight.data.collation import collate, length_sorted_batches
from layersight.data.features import FeatureStore
from layersight.data.rows import tokenized_rows
from layersight.models.blocks import decoder_blocks, unwrapped
from layersight.models.subjects import Subject
from layersight.progress import Progress
from layersight.storage.atomic import atomic_folder
from layersight.storage.manifest import Stopwatch, write_manifest
from layersight.storage.tables import read_table
from layersight.study import Study


def dump(
    study: Study,
    subject: Subject,
    *,
    probes: Mapping[str, Path],
    features: Path | None,
    outs: Mapping[str, Path],
    work: Path | None = None,
) -> None:
    """Write the activations of all layers and streams, one folder a probe set.

    Args:
        study: the study.
        subject: a loaded subject.
        probes: name of the probe set to its table.
        features: image features; None if no input has a picture.
        outs: name of the probe set to its folder, which appears whole as soon as it is done:
            `layer=NN/part-NNNN.parquet` and `manifest.json`.
        work: folder for finished parts, from which the same call goes on; None keeps none. On the
            file system of `outs`, so that parts need not be copied.

    Raises:
        DataError: a probe set is not what it should be, or a vector cannot be stored.
        Interrupted: an end was asked for; finished parts are kept.
    """
    store = FeatureStore.of(features)
    for name, table in probes.items():
        watch = Stopwatch()
        with _folder_for_parts(work, name, outs[name]) as parts:
            writer = ActivationWriter(
                parts,
                layers=len(decoder_blocks(subject.model.language_model)) + 1,
                width=int(unwrapped(subject.model.language_model).config.hidden_size),
                dtype=study.activations.dtype,
                rows_per_part=study.activations.rows_per_part,
            )
            kept = writer.rows
            items = _read(study, subject, name, table, store, writer, kept=work is not None)
            with atomic_folder(outs[name]) as beside:
                writer.place(beside)
                write_manifest(
                    beside / "manifest.json",
                    settings=study.activations.model_dump(),
                    seed=None,
                    device=str(subject.model.device),
                    stopwatch=watch,
                    inputs=[path for path in (table, features) if path is not None],
                    items=items,
                    rows=writer.rows,
                    rows_from_an_interrupted_job=kept,
                )


@contextmanager
def _folder_for_parts(work: Path | None, name: str, out: Path) -> Iterator[Path]:
    if work is not None:
        yield work / name
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.parts-", dir=out.parent) as folder:
        yield Path(folder)


def _read(
    study: Study,
    subject: Subject,
    name: str,
    table: Path,
    store: FeatureStore,
    writer: ActivationWriter,
    *,
    kept: bool,
) -> int:
    """Capture one probe set from where the writer is; return the number of its items."""
    model = subject.model
    streams = list(study.activations.streams)
    rows, images = tokenized_rows(
        study, table, subject.tokenizer, subject.model.image_tokens(store.tokens)
    )
    ids = read_table(table).column("item_id").to_pylist()
    lengths = [len(row.input_ids) for row in rows]
    batches = list(length_sorted_batches(lengths, study.evaluation.batch_size))
    # A part may end between two streams of one batch: that batch runs again.
    first, stream_to_go_on_with = divmod(writer.first_call, len(streams))
    done = sum(len(chosen) for chosen in batches[:first])
    what = f"activations of {subject.name} on {name}"
    label = f"{what}: item"
    if writer.first_call:
        print(f"{what}: goes on at item {done}", file=sys.stderr, flush=True)
        label += f" {done} +"
    with Progress(len(rows) - done, label) as progress:
        for number, chosen in enumerate(batches[first:]):
            interruption.stop_if_requested(what, f"item {done + progress.done}", kept=kept)
            batch = collate(
                [rows[i] for i in chosen],
                [images[i] for i in chosen],
                store,
                padding="left",
                pad_token=int(subject.tokenizer.pad_token_id),
            ).to(model.device)
            read, pool = capture(model, batch, streams)
            values = read.cpu().numpy()
            present = pool.present.cpu().numpy()
            for index, stream in enumerate(streams):
                if number == 0 and index < stream_to_go_on_with:
                    continue
                there = present[index]
                taken = [i for i, yes in zip(chosen, there, strict=True) if yes]
                tokens = [lengths[i] - 1 if stream == "last" else None for i in taken]
                writer.add([ids[i] for i in taken], stream, tokens, values[:, index][:, there])
            progress.advance(len(chosen))
    writer.flush()
    return len(rows)
