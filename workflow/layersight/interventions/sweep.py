"""The patching sweep of one variant: every window, both directions, item by item."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from layersight.benchmarks.lenient import lenient_score
from layersight.benchmarks.questions import (
    Questions,
    choice_margins,
    first_tokens,
    generate,
    load_questions,
)
from layersight.benchmarks.run import evaluation_digest, evaluation_spec, in_pieces
from layersight.data.batch import Batch
from layersight.data.features import FeatureStore
from layersight.interventions.hybrid import Hybrid, assembled, block_runs, run_hybrids
from layersight.interventions.items import ITEMS
from layersight.interventions.windows import windows
from layersight.models.blocks import decoder_blocks
from layersight.models.subjects import Subject, variant_and_seed
from layersight.models.vlm import VisionLanguageModel
from layersight.storage.manifest import Stopwatch, write_manifest
from layersight.storage.tables import write_table
from layersight.study import Study


class IdentityError(Exception):
    """A hybrid that must equal a model does not: the sweep's numbers would mean nothing."""


def plan(study: Study, layers: int) -> list[tuple[str, Hybrid]]:
    """Return the hybrids of a sweep with the name of the sweep each belongs to.

    Besides the study's windows: `reference` rows, the target itself (nothing patched) and the donor
    itself (everything patched), and `connector` rows, the donor's connector with none and with all
    of its blocks.
    """
    hybrids = [
        ("reference", Hybrid(0, 0)),
        ("reference", Hybrid(0, layers, "donor", "donor")),
        ("connector", Hybrid(0, 0, "donor")),
        ("connector", Hybrid(0, layers, "donor")),
    ]
    for sweep in study.patching.sweeps:
        for start, stop in windows(sweep.kind, layers, sweep.stride, sweep.width):
            hybrids.append((sweep.kind, Hybrid(start, stop)))
    return list(dict.fromkeys(hybrids))


def run_sweep(
    study: Study,
    aligned: Subject,
    tuned: Subject,
    *,
    benchmark: Path,
    features: Path,
    out: Path,
    tuned_features: Path | None = None,
    max_new_tokens: int | None = None,
    work: Path | None = None,
) -> None:
    """Score every hybrid on the study's patching items and write one row per hybrid and item.

    Items with choices are scored by the logits of the choices' first tokens. If any item's answer
    is free, every hybrid generates its answers, which are scored by the lenient rule; there is no
    logit margin then.

    The first batch of every direction checks both identities to the last bit: patching nothing
    gives the target's logits, patching everything the donor's. A sweep that goes on checks the
    first batch that it runs itself.

    Args:
        study: the study.
        aligned: the backbone after stage 1.
        tuned: a tuned subject.
        benchmark: table of the patching items.
        features: image features.
        tuned_features: those of the tuned subject, if its vision encoder learned.
        max_new_tokens: longest free answer, of a task of questions from elsewhere; None for the
            benchmarks of pictograms.
        out: table with the schema `ITEMS`; `manifest.json` appears beside it.
        work: folder for the batches that are done, from which the same call goes on; None keeps
            none.

    Raises:
        IdentityError: one of the identities does not hold.
        Interrupted: an end was asked for; the batches so far are kept.
    """
    watch = Stopwatch()
    stores = {
        "aligned": FeatureStore.load(features),
        "tuned": FeatureStore.load(tuned_features or features),
    }
    of_questions = max_new_tokens is not None
    questions = load_questions(
        study,
        benchmark,
        aligned,
        aligned.model.image_tokens(stores["aligned"].tokens),
        split=None if of_questions else study.patching.split,
        limit=study.patching.items,
    )
    template = study.backbone.template
    free = any(not item["choices"] for item in questions.items)
    choices = [
        [] if free else first_tokens(item["choices"], aligned, template) for item in questions.items
    ]
    name = study.patching.split if of_questions else study.patching.benchmark
    most = (max_new_tokens or study.benchmarks.max_new_tokens) if free else None
    layers = len(decoder_blocks(aligned.model.language_model))
    planned = plan(study, layers)
    hybrids = [hybrid for _, hybrid in planned]
    rows: list[dict[str, Any]] = []
    kept = 0
    for direction in study.patching.directions:
        inwards = direction == "tuned_into_base"
        donor = stores["tuned" if inwards else "aligned"] if tuned_features else None
        batches, kept_here = in_pieces(
            study,
            questions,
            stores["aligned" if inwards else "tuned"],
            int(aligned.tokenizer.pad_token_id),
            _Direction(name, direction, aligned, tuned, questions, choices, planned, donor, most),
            what=f"patching {tuned.name}, {len(planned)} hybrids, {direction}",
            piece=direction,
            schema=ITEMS,
            work=work,
            rows_per_item=len(planned),
        )
        rows += [row for _, of_batch in batches for row in of_batch]
        kept += kept_here
    write_table(out, rows, ITEMS)
    write_manifest(
        out.with_name("manifest.json"),
        settings={
            **study.patching.model_dump(),
            "evaluation": evaluation_spec(study, max_new_tokens),
        },
        seed=None,
        device=str(aligned.model.device),
        stopwatch=watch,
        inputs=[benchmark, features],
        evaluation=evaluation_digest(study, max_new_tokens),
        identities="exact",
        items=len(questions.items),
        items_from_an_interrupted_job=kept,
        hybrids=len(planned),
        block_runs_of_the_prefix_tree=block_runs(hybrids, layers),
        block_runs_one_by_one=len(hybrids) * layers,
    )


_Scores = list[tuple[float, float]]
"""Score and logit margin of every item."""


class _Direction:
    """Runs all hybrids of one direction on a batch; checks the identities on its first batch."""

    def __init__(
        self,
        benchmark: str,
        direction: str,
        aligned: Subject,
        tuned: Subject,
        questions: Questions,
        choices: Sequence[Sequence[int]],
        planned: Sequence[tuple[str, Hybrid]],
        donor_features: FeatureStore | None,
        max_new_tokens: int | None,
    ) -> None:
        self._direction = direction
        self._benchmark = benchmark
        self._target, self._donor = (
            (aligned.model, tuned.model)
            if direction == "tuned_into_base"
            else (tuned.model, aligned.model)
        )
        self._variant, self._seed = variant_and_seed(tuned.name)
        self._questions = questions
        self._choices = choices
        self._planned = planned
        self._donor_features = donor_features
        self._aligned = aligned
        self._max_new_tokens = max_new_tokens
        self._checked = False

    def __call__(self, chosen: list[int], on_cpu: Batch) -> list[dict[str, Any]]:
        """Return the rows of a batch, hybrid by hybrid."""
        batch = on_cpu.to(self._target.device)
        items = [self._questions.items[i] for i in chosen]
        donor_batch = batch
        shown = [item["image_id"] for item in items if item["image_id"] is not None]
        if self._donor_features is not None and shown:
            pictures = self._donor_features.take(shown)
            donor_batch = replace(batch, features=pictures.to(self._target.device))
        score = self._by_choice if self._max_new_tokens is None else self._by_words
        scored = score(chosen, batch, donor_batch)
        rows: list[dict[str, Any]] = []
        for (sweep, hybrid), scores in zip(self._planned, scored, strict=True):
            for item, (value, margin) in zip(items, scores, strict=True):
                rows.append(
                    {
                        "variant": self._variant,
                        "seed": self._seed,
                        "direction": self._direction,
                        "sweep": sweep,
                        "start": hybrid.start,
                        "stop": hybrid.stop,
                        "connector": hybrid.connector,
                        "benchmark": self._benchmark,
                        "item_id": item["item_id"],
                        "cluster": item["cluster"],
                        "score": value,
                        "logit_margin": margin,
                    }
                )
        return rows

    def _by_choice(self, chosen: list[int], batch: Batch, donor_batch: Batch) -> list[_Scores]:
        """Score every hybrid by the logits of the choices."""
        hybrids = [hybrid for _, hybrid in self._planned]
        logits = run_hybrids(self._target, self._donor, batch, hybrids, donor_batch)
        self._check(batch, donor_batch, logits)
        items = [self._questions.items[i] for i in chosen]
        correct = [item["choices"].index(item["answer"]) for item in items]
        found: list[_Scores] = []
        for output in logits:
            picked, margins = choice_margins(output, [self._choices[i] for i in chosen], correct)
            right = [
                float(choice == answer) for choice, answer in zip(picked, correct, strict=True)
            ]
            found.append(list(zip(right, margins, strict=True)))
        return found

    def _by_words(self, chosen: list[int], batch: Batch, donor_batch: Batch) -> list[_Scores]:
        """Score every hybrid by the answers that it generates, leniently."""
        if not self._checked:
            references = [hybrid for _, hybrid in self._planned[:2]]
            logits = run_hybrids(self._target, self._donor, batch, references, donor_batch)
            self._check(batch, donor_batch, logits)
        items = [self._questions.items[i] for i in chosen]
        found: list[_Scores] = []
        for _, hybrid in self._planned:
            with (
                torch.inference_mode(),
                assembled(self._target, self._donor, batch, hybrid, donor_batch) as (model, inputs),
            ):
                texts = generate(model, batch, self._aligned, self._max_new_tokens or 1, inputs)
            found.append(
                [
                    (lenient_score(text, item["references"], item["choices"]), math.nan)
                    for item, text in zip(items, texts, strict=True)
                ]
            )
        return found

    def _check(self, batch: Batch, donor_batch: Batch, logits: Sequence[torch.Tensor]) -> None:
        if not self._checked:
            nothing, everything = logits[:2]
            check_identities(self._target, self._donor, batch, nothing, everything, donor_batch)
            self._checked = True


def check_identities(
    target: VisionLanguageModel,
    donor: VisionLanguageModel,
    batch: Batch,
    nothing: torch.Tensor,
    everything: torch.Tensor,
    donor_batch: Batch | None = None,
) -> None:
    """Compare the two reference hybrids with the models' own forward passes, bit for bit.

    Raises:
        IdentityError: they differ.
    """
    with torch.inference_mode():
        for what, hybrid, model, read in (
            ("nothing", nothing, target, batch),
            ("everything", everything, donor, donor_batch or batch),
        ):
            own = model.last_logits(read)
            if not torch.equal(hybrid, own):
                raise IdentityError(
                    f"patching {what} changes the logits by up to "
                    f"{(hybrid - own).abs().max().item():.3g}"
                )
