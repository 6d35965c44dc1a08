"""Training conversations: captions for feature alignment, and the instruction mixture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from layersight.data.concepts import Concept, fair_negative
from layersight.data.conversation import IMAGE_MARKER
from layersight.data.images import image_id
from layersight.errors import DataError, StudyError
from layersight.seeds import derive_seed
from layersight.study import Study

Row = dict[str, Any]
T = TypeVar("T")

NAMING_QUESTIONS = (
    "What is this? Name it.",
    "What does this picture show?",
    "Name the thing in this picture.",
)
KEYWORDS_QUESTION = "Give three keywords for this picture."
_MOST_KEYWORDS = 3
_CAPTION_KEYWORDS = 2


def with_image(text: str) -> str:
    """Put the image marker before a human's text, on a line of its own."""
    return f"{IMAGE_MARKER}\n{text}" if text else IMAGE_MARKER


def conversation(question: str, answer: str | None = None) -> list[dict[str, str]]:
    """Return a conversation of one human turn and, unless it is None, its answer."""
    turns = [{"from": "human", "value": question}]
    return turns if answer is None else [*turns, {"from": "gpt", "value": answer}]


def kind_question(options: Sequence[str], study: Study) -> str:
    """Ask which of at least two kinds a thing is of.

    The options are named in the question, unless all of the study's kinds are options: the model
    then knows them from training, and every question is shorter.
    """
    if len(options) == len(study.concepts.kinds):
        return "What kind of thing is this?"
    return f"Which kind of thing is this: {', '.join(options[:-1])} or {options[-1]}?"


def kind_question_on_name(label: str, options: Sequence[str], study: Study) -> str:
    """Ask the same with the thing's name in place of its picture."""
    return f"{label}\n{kind_question(options, study)}"


def presence_question(label: str) -> str:
    """Ask whether a thing is in the picture."""
    article = "an" if label[0] in "aeio" else "a"
    return f"Is there {article} {label} in this picture? Answer yes or no."


def keywords_question(tags: Sequence[str]) -> str:
    """Ask for the thing that has these keywords."""
    return f"What has these keywords: {', '.join(tags)}?"


def kind_options(
    kind: str, kinds: Sequence[str], choices: int, generator: np.random.Generator
) -> tuple[str, ...]:
    """Draw the options of a kind question: the right one among `choices`, in random order.

    If all kinds are options, they keep their order.
    """
    if choices == len(kinds):
        return tuple(kinds)
    others = [other for other in kinds if other != kind]
    drawn = generator.choice(len(others), size=choices - 1, replace=False)
    options = [kind, *(others[index] for index in drawn)]
    return tuple(options[index] for index in generator.permutation(choices))


def largest_remainder(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Share out `total` in proportion to weights, exactly (Hamilton's method).

    Ties of the remainders go to the earlier key. A weight of zero gets nothing.

    Raises:
        ValueError: the weights sum to zero.
    """
    whole = sum(weights.values())
    if whole <= 0:
        raise ValueError("the weights sum to zero")
    exact = {key: total * weight / whole for key, weight in weights.items()}
    quotas = {key: int(value) for key, value in exact.items()}
    by_remainder = sorted(exact, key=lambda key: quotas[key] - exact[key])
    for key in by_remainder[: total - sum(quotas.values())]:
        quotas[key] += 1
    return quotas


def shuffled_forever(values: Sequence[T], generator: np.random.Generator) -> Iterator[T]:
    """Yield all values in random order, then all of them in another one, and so on."""
    while values:
        for index in generator.permutation(len(values)):
            yield values[index]


def align_rows(study: Study, concepts: Sequence[Concept]) -> list[Row]:
    """Return the captions of stage 1, exactly `align.steps` × `align.batch_size` rows.

    Whole epochs over every seen concept in every seen style, each shuffled anew, cut to length. A
    caption is the label, the kind and up to two keywords.

    Raises:
        DataError: there is no seen concept.
    """
    seen = _seen(concepts)
    generator = np.random.default_rng(derive_seed(study.seed, "data/align"))
    pictures = [(concept, style) for concept in seen for style in study.concepts.seen_styles]
    stream = shuffled_forever(pictures, generator)
    rows = []
    for index in range(study.align.steps * study.align.batch_size):
        concept, style = next(stream)
        keywords = [tag for tag in concept.tags if tag != concept.kind][:_CAPTION_KEYWORDS]
        caption = ", ".join((concept.label, concept.kind, *keywords))
        row = _row("caption", concept, style, with_image(""), caption)
        rows.append({"item_id": f"align/{index:06d}"} | row)
    check_no_leak(study, concepts, rows)
    return rows


def instruct_rows(study: Study, concepts: Sequence[Concept]) -> list[Row]:
    """Return the instruction mixture, exactly `tuning.steps` × `tuning.batch_size` rows.

    Every task has its share of `mixture` to the row, and goes through all concepts (and styles)
    before it repeats one. Half of the presence questions are true (the smaller half, if their
    number is odd).

    Raises:
        DataError: there is no seen concept.
        StudyError: keywords are asked for, but no concept has any.
    """
    seen = _seen(concepts)
    generator = np.random.default_rng(derive_seed(study.seed, "data/instruct"))
    total = study.tuning.steps * study.tuning.batch_size
    quotas = largest_remainder(total, study.mixture.model_dump())
    tasks: dict[str, Callable[..., list[Row]]] = {
        "naming": _naming,
        "kind": _kind,
        "presence": _presence,
        "keywords": _keywords,
        "text_only": _text_only,
    }
    made: list[Row] = []
    for task, count in quotas.items():
        made += tasks[task](study, seen, count, generator)
    order = generator.permutation(len(made))
    rows = [{"item_id": f"instruct/{place:06d}"} | made[index] for place, index in enumerate(order)]
    check_no_leak(study, concepts, rows)
    return rows


def check_no_leak(study: Study, concepts: Sequence[Concept], rows: Sequence[Row]) -> None:
    """Make sure that training rows show neither unseen concepts nor the unseen style.

    Raises:
        DataError: a row does; this is a defect of the program and no measurement may follow.
    """
    seen = {concept.concept for concept in concepts if not concept.unseen}
    allowed = {image_id(name, style) for name in seen for style in study.concepts.seen_styles}
    for row in rows:
        if row["concept"] not in seen:
            raise DataError(f"{row['item_id']}: trains on the unseen concept {row['concept']}")
        if row["image_id"] is not None and row["image_id"] not in allowed:
            raise DataError(f"{row['item_id']}: trains on the unseen picture {row['image_id']}")


def _seen(concepts: Sequence[Concept]) -> list[Concept]:
    seen = [concept for concept in concepts if not concept.unseen]
    if not seen:
        raise DataError("no concept is left to train on")
    return seen


def _row(
    task: str,
    concept: Concept,
    style: str | None,
    question: str,
    answer: str,
    answer_class: str | None = None,
) -> Row:
    return {
        "task": task,
        "concept": concept.concept,
        "image_id": None if style is None else image_id(concept.concept, style),
        "conversations": conversation(question, answer),
        "answer_class": answer_class,
    }


def _pictures(
    study: Study, concepts: Sequence[Concept], generator: np.random.Generator
) -> Iterator[tuple[Concept, str]]:
    """Yield concepts in random order, every time around each in another of the seen styles."""
    styles = study.concepts.seen_styles
    first = dict(
        zip(
            (concept.concept for concept in concepts),
            generator.integers(len(styles), size=len(concepts)),
            strict=True,
        )
    )
    shown: dict[str, int] = defaultdict(int)
    for concept in shuffled_forever(concepts, generator):
        turn = int(first[concept.concept]) + shown[concept.concept]
        shown[concept.concept] += 1
        yield concept, styles[turn % len(styles)]


def _naming(
    study: Study, seen: list[Concept], count: int, generator: np.random.Generator
) -> list[Row]:
    stream = _pictures(study, seen, generator)
    rows = []
    for _ in range(count):
        concept, style = next(stream)
        question = NAMING_QUESTIONS[generator.integers(len(NAMING_QUESTIONS))]
        rows.append(_row("naming", concept, style, with_image(question), concept.label))
    return rows


def _kind(
    study: Study, seen: list[Concept], count: int, generator: np.random.Generator
) -> list[Row]:
    # Kinds take turns: with the pool's own shares, always answering "animal" would pay off.
    streams = [
        _pictures(study, members, generator)
        for kind in study.concepts.kinds
        if (members := [concept for concept in seen if concept.kind == kind])
    ]
    rows = []
    for index in range(count):
        concept, style = next(streams[index % len(streams)])
        options = _options(study, concept, generator)
        question = with_image(kind_question(options, study))
        rows.append(_row("kind", concept, style, question, concept.kind, concept.kind))
    return rows


def _options(study: Study, concept: Concept, generator: np.random.Generator) -> tuple[str, ...]:
    kinds = list(study.concepts.kinds)
    return kind_options(concept.kind, kinds, study.benchmarks.choices, generator)


def _presence(
    study: Study, seen: list[Concept], count: int, generator: np.random.Generator
) -> list[Row]:
    stream = _pictures(study, seen, generator)
    rows = []
    for index in range(count):
        concept, style = next(stream)
        true = index < count // 2
        asked = concept if true else _negative(concept, seen, index % 3, generator)
        answer = "yes" if true else "no"
        question = with_image(presence_question(asked.label))
        rows.append(_row("presence", concept, style, question, answer, answer))
    return rows


def _negative(
    concept: Concept, seen: list[Concept], closeness: int, generator: np.random.Generator
) -> Concept:
    """Draw what is not there: of any kind (0), the same kind (1) or the same subgroup (2)."""
    fair = [other for other in seen if fair_negative(concept, other)]
    same_kind = [other for other in fair if other.kind == concept.kind]
    same_subgroup = [other for other in fair if other.subgroup == concept.subgroup]
    wanted = (fair, same_kind, same_subgroup)[closeness] or same_kind or fair
    if not wanted:
        raise DataError(f"{concept.label}: there is nothing else that could be asked for")
    return wanted[generator.integers(len(wanted))]


def _with_tags(study: Study, seen: list[Concept], task: str) -> list[Concept]:
    tagged = [concept for concept in seen if concept.tags]
    if not tagged:
        raise StudyError(
            f"the study: mixture.{task}: no concept of this study has keywords; set this share to 0"
        )
    return tagged


def _keywords(
    study: Study, seen: list[Concept], count: int, generator: np.random.Generator
) -> list[Row]:
    if count == 0:
        return []
    stream = _pictures(study, _with_tags(study, seen, "keywords"), generator)
    rows = []
    for _ in range(count):
        concept, style = next(stream)
        answer = ", ".join(concept.tags[:_MOST_KEYWORDS])
        rows.append(_row("keywords", concept, style, with_image(KEYWORDS_QUESTION), answer))
    return rows


def _text_only(
    study: Study, seen: list[Concept], count: int, generator: np.random.Generator
) -> list[Row]:
    """Half of them kind questions on the name, half of them the name for its keywords."""
    if count == 0:
        return []
    named = shuffled_forever(seen, generator)
    rows = []
    for _ in range(count - count // 2):
        concept = next(named)
        question = kind_question_on_name(concept.label, _options(study, concept, generator), study)
        rows.append(_row("text_only", concept, None, question, concept.kind))
    if count // 2 == 0:
        return rows
    tagged = shuffled_forever(_with_tags(study, seen, "text_only"), generator)
    for _ in range(count // 2):
        concept = next(tagged)
        rows.append(
            _row("text_only", concept, None, keywords_question(concept.tags), concept.label)
        )
    return rows
