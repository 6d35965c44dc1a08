"""Scoring one subject on the benchmarks, item by item, from files to a table."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from layersight import interruption
from layersight.benchmarks.items import ITEMS, QUESTION_ITEMS
from layersight.benchmarks.lenient import lenient_score
from layersight.benchmarks.questions import (
    Questions,
    choice_margins,
    first_tokens,
    generate,
    load_questions,
)
from layersight.benchmarks.scoring import cider, exact_match, yes_no
from layersight.data.batch import Batch
from layersight.data.features import FeatureStore
from layersight.models.subjects import Subject, variant_and_seed
from layersight.progress import Progress
from layersight.storage.manifest import Stopwatch, write_manifest
from layersight.storage.tables import write_table
from layersight.storage.unfinished import keep_rows, kept_rows
from layersight.study import Study

Answer = Callable[[list[int], Batch], list[str]]
"""Answers a batch of items, given by their indices."""

ANSWERS = pa.schema([("item_id", pa.string()), ("prediction", pa.string())])
"""The answers of one batch, as unfinished work keeps them."""


def evaluation_spec(study: Study, max_new_tokens: int | None = None) -> dict[str, Any]:
    """Return what every evaluated model shares: base, tuned and hybrid alike.

    Args:
        study: the study.
        max_new_tokens: of a task of questions from elsewhere; None is that of the study.
    """
    return {
        **study.evaluation.model_dump(),
        "padding": "left",
        "dtype": study.compute.precision,
        "max_new_tokens": max_new_tokens or study.benchmarks.max_new_tokens,
        "system_prompt": study.backbone.system_prompt,
        "template": study.backbone.template,
        "decoding": "greedy",
        "choices": "logit of the first token of each choice",
    }


def evaluation_digest(study: Study, max_new_tokens: int | None = None) -> str:
    """Return a short digest of the evaluation specification, stored with the scores."""
    text = json.dumps(evaluation_spec(study, max_new_tokens), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_benchmarks(
    study: Study,
    subject: Subject,
    *,
    benchmarks: Mapping[str, Path],
    features: Path | None,
    outs: Mapping[str, Path],
    questions: Mapping[str, int] | None = None,
    work: Path | None = None,
) -> None:
    """Answer every item of every benchmark and write one table a benchmark, one row an item.

    Args:
        study: the study.
        subject: a loaded subject.
        benchmarks: name of the benchmark to its table.
        features: image features; None if no input has a picture.
        outs: name of the benchmark to the table to write, with the schema `ITEMS` (`QUESTION_ITEMS`
            for those of `questions`); it appears, with `manifest.json` beside it, as soon as that
            benchmark is done.
        questions: benchmarks made of questions from elsewhere, with the longest answer of each in
            tokens: answers are generated, and scored by the lenient and the exact rule.
        work: folder for the answers so far, from which the same call goes on; None keeps none.

    Raises:
        DataError: a benchmark is not what it should be.
        Interrupted: an end was asked for; the answers so far are kept.
    """
    store = FeatureStore.of(features)
    for name, table in benchmarks.items():
        watch = Stopwatch()
        items = load_questions(study, table, subject, subject.model.image_tokens(store.tokens))
        most = (questions or {}).get(name)
        predictions, kept = _answers(study, subject, items, store, name, work, most)
        rows = _scored(subject, name, items, predictions, leniently=most is not None)
        write_table(outs[name], rows, ITEMS if most is None else QUESTION_ITEMS)
        write_manifest(
            outs[name].with_name("manifest.json"),
            settings=evaluation_spec(study, most),
            seed=None,
            device=str(subject.model.device),
            stopwatch=watch,
            inputs=[path for path in (table, features) if path is not None],
            evaluation=evaluation_digest(study, most),
            items=len(rows),
            items_from_an_interrupted_job=kept,
        )


def in_pieces(
    study: Study,
    questions: Questions,
    store: FeatureStore,
    pad_token: int,
    compute: Callable[[list[int], Batch], list[dict[str, Any]]],
    *,
    what: str,
    piece: str,
    schema: pa.Schema,
    work: Path | None,
    rows_per_item: int = 1,
) -> tuple[list[tuple[list[int], list[dict[str, Any]]]], int]:
    """Compute the rows of every batch of questions, and keep each batch's as soon as it is done.

    Args:
        study: the study.
        questions: to put into batches.
        store: image features.
        pad_token: token id put on padding.
        compute: takes item indices and their batch (on the CPU) and returns `rows_per_item` times
            one row an item, in that order.
        what: names the work.
        piece: names it in `work`.
        schema: of the rows; has `item_id`.
        work: folder for unfinished work; None keeps nothing.
        rows_per_item: how often an item occurs.

    Returns:
        Item indices and rows of every batch, and how many items an interrupted job had kept.

    Raises:
        Interrupted: an end was asked for before a batch.
    """
    done: list[tuple[list[int], list[dict[str, Any]]]] = []
    kept = 0
    with Progress(len(questions.items), f"{what}: item") as progress:
        for number, (chosen, batch) in enumerate(
            questions.batches(store, batch_size=study.evaluation.batch_size, pad_token=pad_token)
        ):
            name = f"{piece}/batch-{number:06d}"
            ids = [questions.items[i]["item_id"] for i in chosen]
            rows = kept_rows(work, name, schema)
            if rows is not None and [row["item_id"] for row in rows] == ids * rows_per_item:
                kept += len(chosen)
                progress.total -= len(chosen)
            else:
                at = f"item {kept + progress.done}"
                interruption.stop_if_requested(what, at, kept=work is not None)
                if kept and not progress.done:
                    print(f"{what}: goes on at {at}", file=sys.stderr, flush=True)
                rows = compute(chosen, batch)
                keep_rows(work, name, rows, schema)
                progress.advance(len(chosen))
            done.append((chosen, rows))
    return done, kept


def _answers(
    study: Study,
    subject: Subject,
    questions: Questions,
    store: FeatureStore,
    name: str,
    work: Path | None,
    max_new_tokens: int | None,
) -> tuple[list[str], int]:
    """Return the answer to every item, and how many of them an interrupted job had kept."""
    if name in ("kind_image", "kind_text"):
        answer = _chooser(study, subject, questions)
    else:
        answer = _generator(subject, max_new_tokens or study.benchmarks.max_new_tokens)

    def compute(chosen: list[int], batch: Batch) -> list[dict[str, Any]]:
        texts = answer(chosen, batch.to(subject.model.device))
        return [
            {"item_id": questions.items[i]["item_id"], "prediction": text}
            for i, text in zip(chosen, texts, strict=True)
        ]

    batches, kept = in_pieces(
        study,
        questions,
        store,
        int(subject.tokenizer.pad_token_id),
        compute,
        what=f"{subject.name} on {name}",
        piece=name,
        schema=ANSWERS,
        work=work,
    )
    predictions = [""] * len(questions.items)
    for chosen, rows in batches:
        for i, row in zip(chosen, rows, strict=True):
            predictions[i] = row["prediction"]
    return predictions, kept


def _chooser(study: Study, subject: Subject, questions: Questions) -> Answer:
    template = study.backbone.template
    tokens = [first_tokens(item["choices"], subject, template) for item in questions.items]

    def choose(chosen: list[int], batch: Batch) -> list[str]:
        items = [questions.items[i] for i in chosen]
        correct = [item["choices"].index(item["answer"]) for item in items]
        logits = subject.model.last_logits(batch)
        picked, _ = choice_margins(logits, [tokens[i] for i in chosen], correct)
        return [item["choices"][choice] for item, choice in zip(items, picked, strict=True)]

    return choose


def _generator(subject: Subject, max_new_tokens: int) -> Answer:
    def answer(chosen: list[int], batch: Batch) -> list[str]:
        return generate(subject.model, batch, subject, max_new_tokens)

    return answer


def _scored(
    subject: Subject,
    name: str,
    questions: Questions,
    predictions: list[str],
    *,
    leniently: bool = False,
) -> list[dict[str, Any]]:
    variant, seed = variant_and_seed(subject.name)
    consensus: dict[str, float] = {}
    if name == "naming":
        for split in sorted({item["split"] for item in questions.items}):
            # Document frequencies come from the references of the scored items: one split a time.
            pairs = [
                (item, text)
                for item, text in zip(questions.items, predictions, strict=True)
                if item["split"] == split
            ]
            consensus |= cider(
                {item["item_id"]: text for item, text in pairs},
                {item["item_id"]: item["references"] for item, _ in pairs},
            )[1]
    rows = []
    for item, text in zip(questions.items, predictions, strict=True):
        more: dict[str, float] = {}
        if leniently:
            score = lenient_score(text, item["references"], item["choices"])
            more["exact"] = exact_match(text, item["references"])
        elif name == "naming":
            score = exact_match(text, item["references"])
        elif name == "presence":
            score = float(yes_no(text) == item["answer"])
        else:
            score = float(text == item["answer"])
        rows.append(
            {
                "subject": subject.name,
                "variant": variant,
                "seed": seed,
                "benchmark": name,
                "prompt": item["conversations"][0]["value"],
                "answer": "|".join(item["references"])
                if leniently or name == "naming"
                else item["answer"],
                "prediction": text,
                "score": float(score),
                "cider": consensus.get(item["item_id"], float("nan")),
                **{
                    key: item[key]
                    for key in (
                        "split", "condition", "item_id", "concept", "cluster", "kind", "chance",
                        "majority",
                    )
                },
                **more,
            }
        )  # fmt: skip
    return rows
