"""Dumping the activations of one subject on probe sets, from files to files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

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
    study: Study, subject: Subject, *, probes: Mapping[str, Path], features: Path, out: Path
) -> None:
    """Write the activations of all layers and streams on every probe set into the folder `out`.

    Args:
        study: the study.
        subject: a loaded subject.
        probes: name of the probe set to its table.
        features: image features.
        out: folder that appears whole, one sub-folder a probe set.
    """
    watch = Stopwatch()
    store = FeatureStore.load(features)
    model = subject.model
    layers = len(decoder_blocks(model.language_model)) + 1
    width = int(unwrapped(model.language_model).config.hidden_size)
    streams = list(study.activations.streams)
    counts = {}
    with atomic_folder(out) as beside:
        for name, table in probes.items():
            rows, images = tokenized_rows(study, table, subject.tokenizer, store.tokens)
            ids = read_table(table).column("item_id").to_pylist()
            writer = ActivationWriter(
                beside / name,
                layers=layers,
                width=width,
                dtype=study.activations.dtype,
                rows_per_part=study.activations.rows_per_part,
            )
            with Progress(len(rows), f"activations of {subject.name} on {name}: item") as progress:
                lengths = [len(row.input_ids) for row in rows]
                for chosen in length_sorted_batches(lengths, study.evaluation.batch_size):
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
                        there = present[index]
                        kept = [i for i, yes in zip(chosen, there, strict=True) if yes]
                        tokens = [lengths[i] - 1 if stream == "last" else None for i in kept]
                        if kept:
                            writer.add(
                                [ids[i] for i in kept], stream, tokens, values[:, index][:, there]
                            )
                    progress.advance(len(chosen))
            writer.flush()
            counts[name] = len(rows)
        write_manifest(
            beside / "manifest.json",
            settings=study.activations.model_dump(),
            seed=None,
            device=str(model.device),
            stopwatch=watch,
            inputs=[*probes.values(), features],
            items=counts,
        )
