"""What is asked of a question set: probe sets and benchmark items.

With pictures: the picture, the question and the guide. On words alone captions stand in the
picture's place, as in the thesis "How LLaVA Learns to See": "Below are n descriptions of an image.
Use them to answer the question."
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from layersight.data.conversation import OPENING
from layersight.data.conversations import conversation, with_image
from layersight.data.schemas import BENCHMARK, PROBE
from layersight.questions.items import LETTERS, Item, read_items
from layersight.storage.tables import write_table
from layersight.study import PROBES, Study
from layersight.study_questions import Input, QuestionSet

GUIDE = "Answer the question using a single word or phrase."
ALL = "all"
GUIDE_CHOICES = "Answer with the option's letter from the given choices directly."


def prompt(item: Item, given: Input, guide: str | None) -> str:
    """Return the human's turn.

    Args:
        item: the question.
        given: the picture, or captions in its place (the question alone where there are none).
        guide: what follows the question; None takes the one for its kind of answer.
    """
    lines = [item.question]
    lines += [f"{letter}. {text}" for letter, text in zip(LETTERS, item.choices, strict=False)]
    lines.append(guide if guide is not None else GUIDE_CHOICES if item.choices else GUIDE)
    asked = "\n".join(line for line in lines if line)
    if given == "image":
        return with_image(asked)
    if not item.captions:
        return asked
    count = len(item.captions)
    what = "is 1 description" if count == 1 else f"are {count} descriptions"
    use = "it" if count == 1 else "them"
    listed = "\n".join(f"{number}: {text}" for number, text in enumerate(item.captions, 1))
    return f"Below {what} of an image. Use {use} to answer the question.\n\n{listed}\n\n{asked}"


def probe_rows(
    items: Sequence[Item], asked: QuestionSet, count: int
) -> dict[str, list[dict[str, Any]]]:
    """Return the four probe sets; row i is the same question in all of them.

    - `visual_questions`: the picture and the question.
    - `text_questions`: captions and the same question.
    - `pair_images`: the picture alone.
    - `pair_texts`: its first caption alone.

    Args:
        items: with pictures and captions, in the drawn order.
        asked: the set.
        count: rows of a probe set: the first questions.
    """
    sets: dict[str, list[dict[str, Any]]] = {name: [] for name in PROBES}
    for item in items[:count]:
        words = {
            "visual_questions": prompt(item, "image", asked.guide),
            "text_questions": prompt(item, "text", asked.guide),
            "pair_images": with_image(""),
            "pair_texts": item.captions[0],
        }
        for name, rows in sets.items():
            shows = name in ("visual_questions", "pair_images")
            rows.append(
                {
                    "item_id": item.item_id,
                    "concept": item.item_id,
                    "kind": item.kind,
                    "subgroup": item.answers[0],
                    "image_id": item.image_id if shows else None,
                    "conversations": _asking(words[name], asked)
                    if name.endswith("questions")
                    else conversation(words[name]),
                }
            )
    return sets


def task_rows(
    items: Sequence[Item], asked: QuestionSet, task: str, given: Input
) -> list[dict[str, Any]]:
    """Return the benchmark items of one task; its one split is all of them.

    The answer is the right choice's letter, or the first accepted answer. `majority` is whether the
    commonest answer of these very items is right: no training set is known.

    Args:
        items: of the set.
        asked: the set.
        task: its name.
        given: what it asks about.
    """
    answers = [_answer(item) for item in items]
    commonest = max(answers, key=Counter(answers).__getitem__)
    rows = []
    for item, answer in zip(items, answers, strict=True):
        picture = item.image_id if given == "image" else None
        rows.append(
            {
                "item_id": f"{task}/{item.item_id}",
                "split": ALL,
                "condition": ALL,
                "concept": item.item_id,
                "kind": item.kind,
                "subgroup": item.answers[0],
                "image_id": picture,
                "cluster": item.image_id or item.item_id,
                "conversations": _asking(prompt(item, given, asked.guide), asked),
                "choices": list(LETTERS[: len(item.choices)]),
                "answer": answer,
                "references": [answer] if item.choices else list(item.answers),
                "chance": 1.0 / len(item.choices) if item.choices else 0.0,
                "majority": float(
                    answer == commonest if item.choices else commonest in item.answers
                ),
            }
        )
    return rows


def make_question_probes(study: Study, questions: Path, outs: Mapping[str, Path]) -> None:
    """Write the probe sets that are made of a question set.

    Args:
        study: `probes` and the set are read.
        questions: table of `read.read_questions`.
        outs: Parquet file, schema `PROBE`, for each name of `layersight.study.PROBES` wanted.
    """
    asked = study.questions[str(study.probes.from_)]
    sets = probe_rows(read_items(questions), asked, study.probes.items)
    for name, out in outs.items():
        write_table(out, sets[name], PROBE)


def make_question_tasks(
    study: Study, questions: Mapping[str, Path], outs: Mapping[str, Path]
) -> None:
    """Write the benchmark items of all question sets.

    Args:
        study: `questions` is read.
        questions: set to its table of `read.read_questions`.
        outs: Parquet file, schema `BENCHMARK`, for each of the sets' tasks.
    """
    for name, asked in study.questions.items():
        items = read_items(questions[name])
        for task, given in asked.tasks(name).items():
            write_table(outs[task], task_rows(items, asked, task, given), BENCHMARK)


def _asking(words: str, asked: QuestionSet) -> list[dict[str, str]]:
    """Return the human's turn, and the words that the answer begins with."""
    turns = conversation(words)
    return turns if asked.opening is None else [*turns, {"from": OPENING, "value": asked.opening}]


def _answer(item: Item) -> str:
    return item.answers[0] if item.right is None else LETTERS[item.right]
