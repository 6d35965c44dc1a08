"""Killing work in its midst, and comparing what it leaves with what undisturbed work leaves."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from layersight.data.features import FeatureStore
from layersight.data.schemas import INSTRUCT

IMAGES = ["a", "b", "c", None]
ANSWERS = ["round", "angular, and round as well", "pointed"]


class Killed(BaseException):
    """Stands for the end of the process: no handler of the library catches it."""


class Counter:
    """Wraps a function; counts its calls and dies at the start of a chosen one."""

    def __init__(self, function):
        self.function = function
        self.calls = 0
        self.left = None

    def die_after(self, calls):
        self.left = calls

    def __call__(self, *args, **kwargs):
        if self.left is not None:
            if self.left == 0:
                self.left = None
                raise Killed
            self.left -= 1
        self.calls += 1
        return self.function(*args, **kwargs)

    def __get__(self, instance, owner=None):
        return lambda *args, **kwargs: self(instance, *args, **kwargs)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those that hold measured times."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "speed.parquet")
    }


def write_features(store: FeatureStore, path: Path) -> Path:
    store.save(path)
    return path


def write_conversations(path: Path, rows: int, *, text_only: range = range(0)) -> Path:
    """Training conversations of different lengths; some, and `text_only`, without a picture."""
    made = []
    for row in range(rows):
        image = None if row in text_only else IMAGES[row % len(IMAGES)]
        question = "Which kind of thing is this?" + " round, angular or pointed?" * (row % 3)
        made.append(
            {
                "item_id": f"t{row}",
                "task": "kind",
                "concept": f"c{row}",
                "image_id": image,
                "conversations": [
                    {"from": "human", "value": ("<image>\n" if image else "") + question},
                    {"from": "gpt", "value": ANSWERS[row % len(ANSWERS)]},
                ],
                "answer_class": "round",
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(made, schema=INSTRUCT), path)
    return path
