"""Benchmark questions: kind of thing (by picture and by name), presence, naming."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layersight.data.concepts import Concept, fair_negative
from layersight.data.conversations import (
    NAMING_QUESTIONS,
    conversation,
    kind_options,
    kind_question,
    kind_question_on_name,
    presence_question,
    with_image,
)
from layersight.data.images import image_id
from layersight.errors import DataError
from layersight.seeds import derive_seed
from layersight.study import Study

Row = dict[str, Any]
Plan = list[tuple[Concept, tuple[str, ...]]]

PRESENCE_CONDITIONS = ("random", "popular", "adversarial")
# Popular negatives are drawn from this many of the names most often in the pictures of training.
POPULAR_NAMES = 20
_NO_CONDITION = "all"
# Random option lists that are tried before a concept counts as used up.
_TRIES = 50


def benchmark_rows(
    study: Study, concepts: Sequence[Concept], instruct: Sequence[Mapping[str, Any]]
) -> dict[str, list[Row]]:
    """Return the items of every benchmark.

    Splits with pictures: `seen_style` (seen concepts in a seen style, a picture of the instruction
    mixture where there is one), `unseen_style` (seen concepts in the unseen style) and
    `unseen_concept` (unseen concepts in a seen style). Splits of `kind_text`: `seen_concept` and
    `unseen_concept`. Kinds have even shares of a split.

    Args:
        study: the study.
        concepts: all concepts.
        instruct: rows of the instruction mixture, which define the majority answers.

    Raises:
        DataError: a split would be empty.
    """
    trained = {row["image_id"] for row in instruct if row["image_id"] is not None}
    pools = {
        "seen": [concept for concept in concepts if not concept.unseen],
        "unseen": [concept for concept in concepts if concept.unseen],
    }
    for name, pool in pools.items():
        if not pool:
            raise DataError(
                f"no {name} concepts, so the benchmarks would have an empty split; change "
                f"concepts.unseen_subgroups in the study"
            )
    on_pictures, on_names = _kind_items(study, pools, trained, instruct)
    return {
        "kind_image": on_pictures,
        "kind_text": on_names,
        "presence": _presence_items(study, concepts, pools, trained, instruct),
        "naming": _naming_items(study, pools, trained, instruct),
    }


def stratified(
    study: Study, pool: Sequence[Concept], count: int, generator: np.random.Generator
) -> list[Concept]:
    """Draw distinct concepts at random, as many of each kind, as far as the pool has them.

    Even shares keep the score of a constant answer near chance, so that a gain is one.

    Args:
        study: names the kinds.
        pool: concepts to draw from.
        count: how many; at most all of them are drawn.
        generator: source of randomness.

    Returns:
        Distinct concepts, kinds mixed.
    """
    by_kind = {
        kind: [concept for concept in pool if concept.kind == kind] for kind in study.concepts.kinds
    }
    quotas = even_quotas(count, {kind: len(members) for kind, members in by_kind.items()})
    drawn = [
        by_kind[kind][index]
        for kind, quota in quotas.items()
        for index in generator.permutation(len(by_kind[kind]))[:quota]
    ]
    return [drawn[index] for index in generator.permutation(len(drawn))]


def even_quotas(total: int, sizes: Mapping[str, int]) -> dict[str, int]:
    """Share out `total` evenly, giving no key more than its size; what is left goes to the others.

    Remainders go to the earlier keys. The shares add up to `total`, or to all there is.
    """
    quotas = dict.fromkeys(sizes, 0)
    left = min(total, sum(sizes.values()))
    while left:
        for key in [key for key in sizes if quotas[key] < sizes[key]][:left]:
            quotas[key] += 1
            left -= 1
    return quotas


def majority_answer(answers: Sequence[str], among: Sequence[str]) -> str:
    """Return the most frequent of some answers; ties, and none at all, go to the earlier one."""
    counts = Counter(answers)
    return max(among, key=lambda answer: counts[answer])


def _generator(study: Study, name: str) -> np.random.Generator:
    return np.random.default_rng(derive_seed(study.seed, f"data/benchmarks/{name}"))


def _splits(study: Study) -> dict[str, tuple[str, list[str]]]:
    """Return the pool and the styles of every split with pictures."""
    seen, unseen = study.concepts.seen_styles, [study.concepts.unseen_style]
    return {
        "seen_style": ("seen", seen),
        "unseen_style": ("seen", unseen),
        "unseen_concept": ("unseen", seen),
    }


def _style_order(
    concept: Concept, styles: Sequence[str], trained: set[str], generator: np.random.Generator
) -> list[str]:
    """Return a concept's styles at random, those whose picture was trained on first."""
    shuffled = [styles[index] for index in generator.permutation(len(styles))]
    return sorted(shuffled, key=lambda style: image_id(concept.concept, style) not in trained)


def _item(
    concept: Concept,
    *,
    split: str,
    style: str | None,
    question: str,
    choices: Sequence[str],
    answer: str,
    references: Sequence[str],
    majority: bool,
    condition: str = _NO_CONDITION,
) -> Row:
    picture = None if style is None else image_id(concept.concept, style)
    return {
        "split": split,
        "condition": condition,
        "concept": concept.concept,
        "kind": concept.kind,
        "subgroup": concept.subgroup,
        "image_id": picture,
        "cluster": picture or concept.concept,
        "conversations": conversation(question if style is None else with_image(question)),
        "choices": list(choices),
        "answer": answer,
        "references": list(references),
        "chance": 1.0 / len(choices) if choices else 0.0,
        "majority": float(majority),
    }


def _numbered(benchmark: str, rows: Sequence[Row]) -> list[Row]:
    count: Counter[str] = Counter()
    numbered = []
    for row in rows:
        part = row["split"]
        if row["condition"] != _NO_CONDITION:
            part += f"/{row['condition']}"
        numbered.append({"item_id": f"{benchmark}/{part}/{count[part]:05d}"} | row)
        count[part] += 1
    return numbered


def _kind_plan(study: Study, pool: list[Concept], generator: np.random.Generator) -> Plan:
    """Draw concepts and options, no pair of them twice; concepts repeat only when all are used."""
    kinds = list(study.concepts.kinds)
    plan: dict[tuple[str, tuple[str, ...]], Concept] = {}
    while len(plan) < study.benchmarks.kind:
        before = len(plan)
        for concept in stratified(study, pool, study.benchmarks.kind - before, generator):
            for _ in range(_TRIES):
                options = kind_options(concept.kind, kinds, study.benchmarks.choices, generator)
                if (concept.concept, options) not in plan:
                    plan[concept.concept, options] = concept
                    break
        if len(plan) == before:
            break
    return [(concept, options) for (_, options), concept in plan.items()]


def _kind_items(
    study: Study,
    pools: Mapping[str, list[Concept]],
    trained: set[str],
    instruct: Sequence[Mapping[str, Any]],
) -> tuple[list[Row], list[Row]]:
    """Make the kind questions on pictures and on names, the same concepts and options in both."""
    answers = [row["answer_class"] for row in instruct if row["task"] == "kind"]
    generator = _generator(study, "kind")
    plans = {name: _kind_plan(study, pool, generator) for name, pool in pools.items()}

    def item(
        concept: Concept, options: tuple[str, ...], split: str, style: str | None, question: str
    ) -> Row:
        majority = majority_answer(answers, sorted(options)) == concept.kind
        return _item(
            concept,
            split=split,
            style=style,
            question=question,
            choices=options,
            answer=concept.kind,
            references=[concept.kind],
            majority=majority,
        )

    on_pictures = []
    for split, (pool, styles) in _splits(study).items():
        for concept, options in plans[pool]:
            style = _style_order(concept, styles, trained, generator)[0]
            on_pictures.append(item(concept, options, split, style, kind_question(options, study)))
    on_names = []
    for pool, plan in plans.items():
        for concept, options in plan:
            question = kind_question_on_name(concept.label, options, study)
            on_names.append(item(concept, options, f"{pool}_concept", None, question))
    return _numbered("kind_image", on_pictures), _numbered("kind_text", on_names)


def _distinct_pictures(
    study: Study,
    pool: Sequence[Concept],
    styles: Sequence[str],
    count: int,
    trained: set[str],
    generator: np.random.Generator,
) -> list[tuple[Concept, str]]:
    """Draw distinct pictures; a concept comes again, in another style, only when all are used."""
    orders = {
        concept.concept: _style_order(concept, styles, trained, generator) for concept in pool
    }
    pictures: list[tuple[Concept, str]] = []
    for turn in range(len(styles)):
        for concept in stratified(study, pool, count - len(pictures), generator):
            pictures.append((concept, orders[concept.concept][turn]))
    return pictures


def _presence_items(
    study: Study,
    concepts: Sequence[Concept],
    pools: Mapping[str, list[Concept]],
    trained: set[str],
    instruct: Sequence[Mapping[str, Any]],
) -> list[Row]:
    """Make yes/no questions after POPE (Li et al., 2023, section 5.1).

    Every picture gets one true and one false question in each condition. `random` asks for a thing
    of another kind from the same split's concepts (if names unknown from training were only ever
    false, "no" to unknown names would be a shortcut), `popular` for one of the names most often
    true in training, `adversarial` for one of the same subgroup, or of the same kind if the
    subgroup has nothing else to ask for.
    """
    generator = _generator(study, "presence")
    answers = [row["answer_class"] for row in instruct if row["task"] == "presence"]
    most_frequent = majority_answer(answers, ("yes", "no"))
    popular = _popular(concepts, instruct)
    rows = []
    for split, (pool_name, styles) in _splits(study).items():
        pool = pools[pool_name]
        pairs = study.benchmarks.presence // 2
        pictures = _distinct_pictures(study, pool, styles, pairs, trained, generator)
        if not pictures:
            raise DataError(
                f"presence: the split {split} would be empty; benchmarks.presence must be at least "
                f"2, one true and one false question"
            )
        for condition in PRESENCE_CONDITIONS:
            for concept, style in pictures:
                sources = {
                    "random": _random_negatives(concept, pool, concepts),
                    "popular": popular,
                    "adversarial": _close_negatives(concept, concepts),
                }
                negative = _draw_negative(concept, (sources[condition], concepts), generator)
                for asked, answer in ((concept, "yes"), (negative, "no")):
                    rows.append(
                        _item(
                            concept,
                            split=split,
                            style=style,
                            question=presence_question(asked.label),
                            choices=("yes", "no"),
                            answer=answer,
                            references=[answer],
                            majority=most_frequent == answer,
                            condition=condition,
                        )
                    )
    return _numbered("presence", rows)


def _popular(concepts: Sequence[Concept], instruct: Sequence[Mapping[str, Any]]) -> list[Concept]:
    """Return the concepts most often truly asked for in training; ties by how often shown."""
    true = Counter(row["concept"] for row in instruct if row["answer_class"] == "yes")
    shown = Counter(row["concept"] for row in instruct if row["image_id"] is not None)
    seen = [concept for concept in concepts if not concept.unseen]
    ranked = sorted(seen, key=lambda one: (-true[one.concept], -shown[one.concept], one.concept))
    return ranked[:POPULAR_NAMES]


def _random_negatives(
    concept: Concept, pool: Sequence[Concept], concepts: Sequence[Concept]
) -> list[Concept]:
    near = [other for other in pool if other.kind != concept.kind]
    return near or [other for other in concepts if other.kind != concept.kind]


def _close_negatives(concept: Concept, concepts: Sequence[Concept]) -> list[Concept]:
    fair = [other for other in concepts if fair_negative(concept, other)]
    same_subgroup = [other for other in fair if other.subgroup == concept.subgroup]
    return same_subgroup or [other for other in fair if other.kind == concept.kind]


def _draw_negative(
    concept: Concept, sources: Sequence[Sequence[Concept]], generator: np.random.Generator
) -> Concept:
    """Draw from the first source that has something to ask for."""
    for source in sources:
        fair = [other for other in source if fair_negative(concept, other)]
        if fair:
            return fair[generator.integers(len(fair))]
    raise DataError(f"{concept.label}: there is nothing else that could be asked for")


def _naming_items(
    study: Study,
    pools: Mapping[str, list[Concept]],
    trained: set[str],
    instruct: Sequence[Mapping[str, Any]],
) -> list[Row]:
    """Ask for names, of each concept at most once per split."""
    generator = _generator(study, "naming")
    answers = [row["conversations"][-1]["value"] for row in instruct if row["task"] == "naming"]
    most_frequent = majority_answer(answers, sorted(set(answers))) if answers else None
    rows = []
    for split, (pool, styles) in _splits(study).items():
        for concept in stratified(study, pools[pool], study.benchmarks.naming, generator):
            names = [concept.label, *concept.synonyms]
            rows.append(
                _item(
                    concept,
                    split=split,
                    style=_style_order(concept, styles, trained, generator)[0],
                    question=NAMING_QUESTIONS[0],
                    choices=(),
                    answer=concept.label,
                    references=names,
                    majority=most_frequent in names,
                )
            )
    return _numbered("naming", rows)
