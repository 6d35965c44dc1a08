"""Measuring one subject's attention ratios, from files to a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from layersight import interruption
from layersight.attention.items import ITEMS
from layersight.attention.ratio import BOS, KINDS, ratios
from layersight.attention.read import attention_ratio
from layersight.data.collation import collate, length_sorted_batches
from layersight.data.features import FeatureStore
from layersight.data.rows import tokenized_rows
from layersight.errors import DataError
from layersight.models.blocks import decoder_blocks
from layersight.models.subjects import Subject
from layersight.progress import Progress
from layersight.storage.manifest import Stopwatch, write_manifest
from layersight.storage.tables import read_table, write_table
from layersight.storage.unfinished import keep_rows, kept_rows
from layersight.study import Study


def measure_attention(
    study: Study,
    subject: Subject,
    conversations: Path,
    features: Path,
    out: Path,
    *,
    work: Path | None = None,
) -> None:
    """Write how one subject divides its attention while it answers, one row per item and number.

    Args:
        study: the study; it has `attention`.
        subject: a loaded subject with a connector.
        conversations: table of visual questions, of whose first `attention.items` rows is read.
        features: image features.
        out: table with the schema `ITEMS`, items in the table's order; `manifest.json` appears
            beside it.
        work: folder for the batches that are done, from which the same call goes on; None keeps
            none.

    Raises:
        DataError: a question is not what it should be, has no picture, or is too long to be
            answered.
        ValueError: the study does not ask for attention.
        Interrupted: an end was asked for before a batch; the batches so far are kept.
    """
    watch = Stopwatch()
    settings = study.attention
    if settings is None:
        raise ValueError("the study does not ask for attention")
    store = FeatureStore.load(features)
    tokens, images = tokenized_rows(
        study, conversations, subject.tokenizer, subject.model.image_tokens(store.tokens)
    )
    ids = read_table(conversations).column("item_id").to_pylist()[: settings.items]
    for index, name in enumerate(ids):
        where = f"{conversations}: row {name}"
        if images[index] is None:
            raise DataError(f"{where}: has no picture; attention is divided in rows with one")
        length = len(tokens[index].input_ids)
        if length + settings.new_tokens > subject.tokenizer.model_max_length:
            raise DataError(
                f"{where}: its {length} tokens and attention.new_tokens = {settings.new_tokens} "
                f"exceed the {subject.tokenizer.model_max_length} tokens that the language model "
                "reads"
            )
    pad = int(subject.tokenizer.pad_token_id)
    blocks = len(decoder_blocks(subject.model.language_model))
    what = f"attention of {subject.name}"
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ids}
    kept = 0
    lengths = [len(row.input_ids) for row in tokens[: len(ids)]]
    with Progress(len(ids), f"{what}: item") as progress:
        for number, chosen in enumerate(length_sorted_batches(lengths, settings.batch_size)):
            piece = f"attention/batch-{number:06d}"
            names = [ids[i] for i in chosen]
            rows = kept_rows(work, piece, ITEMS)
            if rows is not None and len(rows) == len(names) * blocks * len(KINDS) * len(BOS):
                kept += len(names)
                progress.total -= len(names)
            else:
                at = f"item {kept + progress.done}"
                interruption.stop_if_requested(what, at, kept=work is not None)
                if kept and not progress.done:
                    print(f"{what}: goes on at {at}", file=sys.stderr, flush=True)
                batch = collate(
                    [tokens[i] for i in chosen],
                    [images[i] for i in chosen],
                    store,
                    padding="left",
                    pad_token=pad,
                ).to(subject.model.device)
                divided = attention_ratio(
                    subject.model,
                    batch,
                    new_tokens=settings.new_tokens,
                    end=int(subject.tokenizer.eos_token_id),
                    pad=pad,
                )
                rows = _rows(subject.name, names, divided)
                keep_rows(work, piece, rows, ITEMS)
                progress.advance(len(names))
            for row in rows:
                found[row["item_id"]].append(row)
    write_table(out, [row for name in ids for row in found[name]], ITEMS)
    write_manifest(
        out.with_name("manifest.json"),
        settings=settings.model_dump(),
        seed=None,
        device=str(subject.model.device),
        stopwatch=watch,
        inputs=[conversations, features],
        items=len(ids),
        items_from_an_interrupted_job=kept,
    )


def _rows(subject: str, names: list[str], divided: torch.Tensor) -> list[dict[str, Any]]:
    """Turn `(blocks, rows, kinds, bos, 2)` into rows of `ITEMS`."""
    values = divided.double()
    shares = ratios(values)
    return [
        {
            "subject": subject,
            "item_id": name,
            "block": block,
            "kind": kind,
            "bos": bos,
            "ratio": float(shares[block, row, k, b]),
            "image": float(values[block, row, k, b, 0]),
            "text": float(values[block, row, k, b, 1]),
        }
        for row, name in enumerate(names)
        for block in range(len(values))
        for k, kind in enumerate(KINDS)
        for b, bos in enumerate(BOS)
    ]
