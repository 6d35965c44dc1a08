"""From a set's files to the tables of its chosen questions and of their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from layersight.data.images import read_picture
from layersight.data.llava_json import PictureFolder
from layersight.data.schemas import IMAGES
from layersight.errors import DataError
from layersight.progress import Progress
from layersight.questions.cocoqa import cocoqa_rows, read_cocoqa
from layersight.questions.items import QUESTIONS, Item, checked
from layersight.questions.jsonl import read_jsonl
from layersight.questions.parquet import read_mmlu, read_scienceqa, scienceqa_pictures
from layersight.questions.sources import files_of, pictures_of
from layersight.seeds import derive_seed
from layersight.storage.atomic import atomic_file
from layersight.storage.tables import write_table
from layersight.study import Study
from layersight.study_questions import QuestionSet

_PICTURES_AT_ONCE = 16


def read_questions(study: Study, name: str, *, cache: Path, out: Path, images: Path) -> None:
    """Choose a set's questions and write them with their pictures.

    Args:
        study: `seed` and this set are read.
        name: of the set.
        cache: folder of what has been fetched.
        out: Parquet file, schema `QUESTIONS`, `items` rows in the drawn order.
        images: Parquet file, schema `IMAGES`, the pictures of these questions as their files have
            them; without any where the set is asked on words alone.

    Raises:
        DataError: a file or picture is missing, damaged or not in the set's form, an item occurs
            twice, lacks what it is asked with, or there are fewer than wanted or other than
            published.
    """
    asked = study.questions[name]
    files = files_of(asked, cache)
    generator = np.random.default_rng(derive_seed(study.seed, f"questions/{name}"))
    chosen = choose(asked, files, generator)
    shown = list(dict.fromkeys(item.image_id for item in chosen if item.image_id is not None))
    _write_pictures(images, name, _pictures(asked, files, pictures_of(asked, cache), shown), shown)
    renamed = [
        item if item.image_id is None else replace(item, image_id=f"{name}/{item.image_id}")
        for item in chosen
    ]
    write_table(out, [item.row() for item in renamed], QUESTIONS)


def choose(asked: QuestionSet, files: Sequence[Path], generator: np.random.Generator) -> list[Item]:
    """Return the questions of a set that are asked, in an order that is drawn.

    Args:
        asked: the set.
        files: as `sources.files_of` names them.
        generator: source of randomness.

    Raises:
        DataError: see `read_questions`.
    """
    fitting: list[Item] = []
    seen: set[str] = set()
    for item in _published(asked, files, generator):
        try:
            if item.item_id in seen:
                raise DataError("occurs twice; every item needs an id of its own")
            seen.add(item.item_id)
            if not (asked.form == "scienceqa" and _of_the_other_kind(asked, item)):
                fitting.append(_with_inputs(asked, checked(item)))
        except DataError as error:
            raise DataError(f"{files[0]}: item {item.item_id}: {error}") from None
    # Of COCO-QA one question a picture is read, but all were published.
    published = len(cocoqa_rows(files[0])) if asked.form == "cocoqa" else len(seen)
    if not fitting:
        what = "no items" if not published else f"{published} items, but none for its inputs"
        raise DataError(f"{files[0]}: has {what}; expected at least {asked.items}")
    if asked.rows is not None and published != asked.rows:
        raise DataError(
            f"{files[0]}: has {published} items, but {asked.rows} were published (rows in the "
            f"study); is it the right file, and whole?"
        )
    if len(fitting) < asked.items:
        raise DataError(
            f"{files[0]}: has {len(fitting)} items to ask, but the study wants {asked.items} "
            f"(items); give fewer"
        )
    return [fitting[index] for index in generator.permutation(len(fitting))[: asked.items]]


def _published(
    asked: QuestionSet, files: Sequence[Path], generator: np.random.Generator
) -> Iterator[Item]:
    if asked.form == "mmlu":
        return read_mmlu(files)
    if asked.form == "scienceqa":
        return read_scienceqa(files)
    if asked.form == "cocoqa":
        return read_cocoqa(files[0], files[1], getattr(asked, "split", None), generator)
    return (item for file in files for item in read_jsonl(file))


def _of_the_other_kind(asked: QuestionSet, item: Item) -> bool:
    """Whether a set of items with and without pictures has this one for its other half."""
    return ("image" in asked.inputs) != (item.image_id is not None)


def _with_inputs(asked: QuestionSet, item: Item) -> Item:
    """Return an item with what it is asked with, and nothing else.

    Raises:
        DataError: it lacks that.
    """
    shows, words = "image" in asked.inputs, "text" in asked.inputs
    if shows and not item.image_id:
        raise DataError("has no image, but inputs of the set has image")
    if words and item.image_id and not item.captions:
        raise DataError(
            "has no captions, but inputs of the set has text: words that stand for its image"
        )
    return item if shows else replace(item, image_id=None)


def _pictures(
    asked: QuestionSet, files: Sequence[Path], folder: Path | None, shown: Sequence[str]
) -> Iterator[tuple[str, bytes]]:
    if not shown:
        return
    if asked.form == "scienceqa":
        yield from scienceqa_pictures(files, set(shown))
        return
    if folder is None:
        raise ValueError("a set with pictures names where they are")
    pictures = PictureFolder(folder)
    for image in shown:
        yield image, pictures.row(image)["image"]["bytes"]


def _write_pictures(
    out: Path, name: str, pictures: Iterator[tuple[str, bytes]], shown: Sequence[str]
) -> None:
    """Write the table of pictures; a few of them are in memory at a time."""
    rows: list[dict[str, Any]] = []
    with (
        atomic_file(out) as beside,
        pq.ParquetWriter(beside, IMAGES, compression="none") as file,
        Progress(len(shown), f"pictures of {name}:") as progress,
    ):
        for image, content in pictures:
            try:
                read_picture(content)
            except DataError as error:
                raise DataError(f"questions.{name}: the picture {image} {error}") from None
            rows.append(
                {
                    "image_id": f"{name}/{image}",
                    "concept": "",
                    "style": name,
                    "image": {"bytes": content, "path": image},
                }
            )
            progress.advance()
            if len(rows) == _PICTURES_AT_ONCE:
                file.write_table(pa.Table.from_pylist(rows, schema=IMAGES))
                rows = []
        if rows:
            file.write_table(pa.Table.from_pylist(rows, schema=IMAGES))


def join_images(tables: Sequence[Path], out: Path) -> None:
    """Put tables of pictures together, a few pictures in memory at a time.

    Args:
        tables: schema `IMAGES`.
        out: Parquet file, schema `IMAGES`.

    Raises:
        DataError: one of them is not readable.
    """
    with atomic_file(out) as beside, pq.ParquetWriter(beside, IMAGES, compression="none") as file:
        for path in tables:
            try:
                with pq.ParquetFile(path) as source:
                    for batch in source.iter_batches(batch_size=_PICTURES_AT_ONCE):
                        file.write_table(pa.Table.from_batches([batch]).cast(IMAGES))
            except (pa.ArrowException, OSError, ValueError) as error:
                raise DataError(
                    f"{path}: not a readable table of pictures ({error}); delete it and rerun"
                ) from None
