"""Scoring one subject on the benchmarks, item by item, from files to a table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layersight.benchmarks.items import ITEMS
from layersight.benchmarks.questions import (
    Questions,
    choice_margins,
    first_tokens,
    generate,
    load_questions,
)
from layersight.benchmarks.scoring import cider, exact_match, yes_no
from layersight.data.features import FeatureStore
from layersight.models.subjects import Subject, variant_and_seed
from layersight.progress import Progress
from layersight.storage.manifest import Stopwatch, write_manifest
from layersight.storage.tables import write_table
from layersight.study import Study


def evaluation_spec(study: Study) -> dict[str, Any]:
    """Return what every evaluated model shares: base, tuned and hybrid alike."""
    return {
        **study.evaluation.model_dump(),
        "padding": "left",
        "dtype": study.compute.precision,
        "max_new_tokens": study.benchmarks.max_new_tokens,
        "system_prompt": study.backbone.system_prompt,
        "decoding": "greedy",
        "choices": "logit of the first token of each choice",
    }


def evaluation_digest(study: Study) -> str:
    """Return a short digest of the evaluation specification, stored with the scores."""
    text = json.dumps(evaluation_spec(study), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_benchmarks(
    study: Study, subject: Subject, *, benchmarks: Mapping[str, Path], features: Path, out: Path
) -> None:
    """Answer every item of every benchmark and write one row per item to the table `out`.

    A manifest appears beside the table.

    Args:
        study: the study.
        subject: a loaded subject.
        benchmarks: name of the benchmark to its table.
        features: image features.
        out: table with the schema `ITEMS`.
    """
    watch = Stopwatch()
    store = FeatureStore.load(features)
    rows: list[dict[str, Any]] = []
    for name, table in benchmarks.items():
        questions = load_questions(study, table, subject, store.tokens)
        answer = _choose if name in ("kind_image", "kind_text") else _generate
        predictions = answer(study, subject, questions, store, name)
        rows += _scored(subject, name, questions, predictions)
    write_table(out, rows, ITEMS)
    write_manifest(
        out.with_name("manifest.json"),
        settings=evaluation_spec(study),
        seed=None,
        device=str(subject.model.device),
        stopwatch=watch,
        inputs=[*benchmarks.values(), features],
        evaluation=evaluation_digest(study),
        items=len(rows),
    )


def _choose(
    study: Study, subject: Subject, questions: Questions, store: FeatureStore, name: str
) -> list[str]:
    predictions = [""] * len(questions.items)
    choices = [first_tokens(item["choices"], subject) for item in questions.items]
    with Progress(len(predictions), f"{subject.name} on {name}: item") as progress:
        for chosen, batch in questions.batches(
            store,
            batch_size=study.evaluation.batch_size,
            pad_token=int(subject.tokenizer.pad_token_id),
        ):
            logits = subject.model.last_logits(batch.to(subject.model.device))
            items = [questions.items[i] for i in chosen]
            correct = [item["choices"].index(item["answer"]) for item in items]
            picked, _ = choice_margins(logits, [choices[i] for i in chosen], correct)
            for i, item, choice in zip(chosen, items, picked, strict=True):
                predictions[i] = item["choices"][choice]
            progress.advance(len(chosen))
    return predictions


def _generate(
    study: Study, subject: Subject, questions: Questions, store: FeatureStore, name: str
) -> list[str]:
    predictions = [""] * len(questions.items)
    with Progress(len(predictions), f"{subject.name} on {name}: item") as progress:
        for chosen, batch in questions.batches(
            store,
            batch_size=study.evaluation.batch_size,
            pad_token=int(subject.tokenizer.pad_token_id),
        ):
            texts = generate(
                subject.model,
                batch.to(subject.model.device),
                subject,
                study.benchmarks.max_new_tokens,
            )
            for i, text in zip(chosen, texts, strict=True):
                predictions[i] = text
            progress.advance(len(chosen))
    return predictions


def _scored(
    subject: Subject, name: str, questions: Questions, predictions: list[str]
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
        if name == "naming":
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
                "answer": "|".join(item["references"]) if name == "naming" else item["answer"],
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
            }
        )  # fmt: skip
    return rows
