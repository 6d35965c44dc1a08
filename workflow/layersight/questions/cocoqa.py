"""COCO-QA (Ren, Kiros and Zemel 2015) joined with Karpathy's captions of COCO.

COCO-QA is four text files with one line a question (`README` of the data set): `questions.txt`,
`answers.txt` (one word), `img_ids.txt` (COCO's number of the picture) and `types.txt` (0 object,
1 number, 2 colour, 3 location). Karpathy's `dataset_coco.json` has of every picture its number
(`cocoid`), its place (`filepath`/`filename`), its split and its captions (`sentences`, `raw`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson
import numpy as np

from layersight.errors import DataError
from layersight.questions.items import Item

FILES = ("questions.txt", "answers.txt", "img_ids.txt", "types.txt")
KINDS = ("object", "number", "colour", "location")
_ABOUT = "COCO-QA has the files questions.txt, answers.txt, img_ids.txt and types.txt in a folder"


def cocoqa_rows(folder: Path) -> list[tuple[str, str, int, str]]:
    """Return question, answer, picture and kind of every line, in the files' order.

    Raises:
        DataError: a file is missing, files of different lengths, or a line that is no number.
    """
    columns = [_lines(folder / name) for name in FILES]
    lengths = {name: len(lines) for name, lines in zip(FILES, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in lengths.items())
        raise DataError(f"{folder}: its files differ in their numbers of lines: {told}")
    rows = []
    for number, (question, answer, picture, kind) in enumerate(zip(*columns, strict=True), 1):
        if not picture.isdecimal():
            raise DataError(f"{folder}/img_ids.txt: line {number}: {picture!r} is no number")
        if kind not in ("0", "1", "2", "3"):
            raise DataError(f"{folder}/types.txt: line {number}: {kind!r} is none of 0, 1, 2, 3")
        rows.append((question, answer, int(picture), KINDS[int(kind)]))
    return rows


def read_cocoqa(
    folder: Path, captions: Path, split: str | None, generator: np.random.Generator
) -> Iterator[Item]:
    """Yield one question of every picture, with captions.

    Which of a picture's questions it is, is drawn. An item is named by the number of its picture
    and the line of its question. COCO-QA leaves out question marks; they are put back.

    Args:
        folder: of the four files.
        captions: `dataset_coco.json`.
        split: of which of Karpathy's splits the pictures are; None: all.
        generator: source of randomness.

    Raises:
        DataError: a file is missing or not what it should be, a picture has no captions, or no
            picture is of this split.
    """
    of_picture = defaultdict(list)
    for number, row in enumerate(cocoqa_rows(folder), 1):
        of_picture[row[2]].append((number, row))
    told = _captions(captions, set(of_picture))
    missing = sorted(set(of_picture) - set(told))
    if missing:
        raise DataError(
            f"{captions}: has no captions of {len(missing)} pictures of {folder}, such as "
            f"{missing[0]}; is it Karpathy's dataset_coco.json?"
        )
    found = False
    for picture, asked in of_picture.items():
        number, (question, answer, _, kind) = asked[generator.integers(len(asked))]
        image, its_split, sentences = told[picture]
        if split is not None and its_split != split:
            continue
        found = True
        question = question if question.endswith("?") else f"{question}?"
        yield Item(f"{picture}/{number}", question, (answer,), (), kind, image, sentences)
    if not found:
        known = ", ".join(sorted({each[1] for each in told.values()}))
        raise DataError(f"{captions}: no picture is of the split {split!r}; splits: {known}")


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; {_ABOUT}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text in UTF-8 ({error})") from None


def _captions(path: Path, wanted: set[int]) -> dict[int, tuple[str, str, tuple[str, ...]]]:
    """Return place, split and captions of pictures, one of all in memory at a time."""
    found = {}
    try:
        with path.open("rb") as file:
            for entry in ijson.items(file, "images.item", use_float=True):
                number = entry["cocoid"]
                if number in wanted:
                    found[number] = (_place(entry), entry["split"], _sentences(entry))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected Karpathy's dataset_coco.json") from None
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: a picture has no {error}; expected Karpathy's dataset_coco.json, "
            f'{{"images": [{{"cocoid", "filepath", "filename", "split", "sentences"}}]}}'
        ) from None
    except (OSError, ijson.JSONError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as JSON ({' '.join(str(error).split())})") from None
    return found


def _place(entry: dict[str, Any]) -> str:
    return f"{entry['filepath']}/{entry['filename']}"


def _sentences(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(" ".join(sentence["raw"].split()) for sentence in entry["sentences"])
