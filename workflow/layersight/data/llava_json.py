"""Conversations in LLaVA's JSON, and the folder of pictures that goes with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import ijson
import pyarrow as pa
import pyarrow.parquet as pq

from layersight.data.conversation import IMAGE_MARKER
from layersight.data.images import flattened, read_picture
from layersight.data.schemas import INSTRUCT
from layersight.data.streaming import GROUP_ROWS
from layersight.errors import DataError
from layersight.storage.atomic import atomic_file

if TYPE_CHECKING:
    from PIL import Image

_EXPECTED = (
    'a list of {"id": ..., "image": ..., "conversations": [{"from": "human", "value": ...}, '
    '{"from": "gpt", "value": ...}]}'
)
_GROUP_BYTES = 2**20


class PictureFolder:
    """Pictures in a folder; the identifier of a picture is its path in there, with `/`.

    Args:
        folder: the folder; links in it are followed.

    Raises:
        DataError: no such folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{self.folder}: no such folder of pictures")

    def path(self, image_id: str) -> Path:
        """Return where a picture is.

        Raises:
            DataError: the identifier leaves the folder, or there is no such file.
        """
        inside = PurePosixPath(image_id)
        if not image_id or "\0" in image_id or inside.is_absolute() or ".." in inside.parts:
            raise DataError(
                f"the picture {image_id!r} is no path inside {self.folder}; write it as "
                f"sub-folder/name"
            )
        path = self.folder / inside
        try:
            found = path.is_file()
        except OSError:  # no name that a file can have
            found = False
        if not found:
            raise DataError(f"the picture {image_id} is missing in {self.folder}")
        return path

    def open(self, image_id: str) -> Image.Image:
        """Return a picture as RGB, what is transparent on white.

        Raises:
            DataError: as `path`, or the picture is damaged or of a kind that is not read.
        """
        path = self.path(image_id)
        try:
            return flattened(read_picture(path.read_bytes()))
        except (OSError, DataError) as error:
            raise DataError(f"{path}: the picture {error}") from None

    def row(self, image_id: str) -> dict[str, Any]:
        """Return a picture as a row of the table of pictures: `image_id` and `image`.

        Raises:
            DataError: as `path`, or the file cannot be read.
        """
        path = self.path(image_id)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: the picture cannot be read: {error}") from None
        return {"image_id": image_id, "image": {"bytes": content, "path": image_id}}


def import_llava(
    conversations: Path,
    pictures: Path,
    out: Path,
    *,
    task: str = "llava",
    published: int | None = None,
) -> int:
    """Turn LLaVA's JSON into a table of training conversations, atomically.

    The JSON is read as a stream, and the table is written in small row groups, so that memory does
    not grow with the number of conversations. Pictures stay where they are: `image_id` is the path
    of a picture in its folder. As LLaVA's training code does, the marker `<image>` is moved to the
    head of the human's text. Identifiers in LLaVA's files repeat, so that an item is named
    "<position in the list>/<id>".

    Args:
        conversations: JSON file, a list of `{"id", "image", "conversations"}`; `image` is left out
            or null where there is no picture.
        pictures: folder in which the pictures are.
        out: Parquet file, schema `INSTRUCT` (which is also `ALIGN`).
        task: value of the column `task`.
        published: how many conversations there are, as published; None takes any number.

    Returns:
        Number of rows.

    Raises:
        DataError: not such a JSON file, or a row that cannot be used (the message names it): its
            turns do not alternate, or its picture is missing, leaves the folder, or does not go
            together with `<image>`; or another number of conversations than published.
    """
    folder = PictureFolder(pictures)
    count = size = 0
    rows: list[dict[str, Any]] = []
    with atomic_file(out) as beside, pq.ParquetWriter(beside, INSTRUCT, compression="zstd") as file:
        for entry in _entries(conversations):
            try:
                row = _row(entry, count, folder, task)
            except DataError as error:
                named = entry.get("id") if isinstance(entry, dict) else None
                where = f"row {count}" + ("" if named is None else f" (id {named})")
                raise DataError(f"{conversations}: {where}: {error}") from None
            rows.append(row)
            count += 1
            size += sum(len(turn["value"]) for turn in row["conversations"])
            if len(rows) >= GROUP_ROWS or size >= _GROUP_BYTES:
                file.write_table(pa.Table.from_pylist(rows, schema=INSTRUCT))
                rows, size = [], 0
        if not count:
            raise DataError(f"{conversations}: has no rows; expected {_EXPECTED}")
        if published is not None and count != published:
            raise DataError(
                f"{conversations}: has {count} conversations, but {published} were published "
                f"(data.rows in the study); is it the pinned file, and whole?"
            )
        if rows:
            file.write_table(pa.Table.from_pylist(rows, schema=INSTRUCT))
    return count


def _entries(path: Path) -> Iterator[Any]:
    """Yield the elements of a JSON list, one in memory at a time."""
    try:
        with path.open("rb") as file:
            # A parser that looks for elements finds none in another JSON, and says nothing.
            if file.read(256).lstrip()[:1] not in (b"[", b""):
                raise DataError(f"{path}: is no JSON list; expected {_EXPECTED}")
            file.seek(0)
            yield from ijson.items(file, "item", use_float=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected {_EXPECTED}") from None
    except (OSError, ijson.JSONError, UnicodeDecodeError) as error:
        told = " ".join(str(error).split())
        raise DataError(f"{path}: not readable as JSON ({told}); download it again") from None


def _row(entry: Any, position: int, folder: PictureFolder, task: str) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("conversations"), list):
        raise DataError(
            f"is {json.dumps(entry, default=str)[:60]}; expected an element of {_EXPECTED}"
        )
    image = entry.get("image")
    if image is not None:
        if not isinstance(image, str):
            raise DataError(f"has the image {image!r}; expected one path, or none")
        folder.path(_text(image, "the path of its image"))
    turns = [_turn(turn, number) for number, turn in enumerate(entry["conversations"])]
    if not turns or len(turns) % 2:
        raise DataError(f"has {len(turns)} turns; expected human and gpt in turn, gpt last")
    marked = sum(turn["value"].count(IMAGE_MARKER) for turn in turns)
    if marked != (image is not None):
        raise DataError(
            f"has {IMAGE_MARKER} {marked} times and "
            f"{'no image' if image is None else f'the image {image}'}; "
            f"expected it once with an image, and not at all without"
        )
    for turn in turns:
        if IMAGE_MARKER in turn["value"]:
            if turn["from"] != "human":
                raise DataError(f"has {IMAGE_MARKER} in a turn from gpt; expected it from human")
            text = turn["value"].replace(IMAGE_MARKER, "").strip()
            turn["value"] = f"{IMAGE_MARKER}\n{text}".strip()
    named = entry.get("id")
    return {
        "item_id": f"{position}" if named is None else f"{position}/{_text(named, 'id')}",
        "task": task,
        "concept": "",
        "image_id": image,
        "conversations": turns,
        "answer_class": None,
    }


def _turn(turn: Any, number: int) -> dict[str, str]:
    wanted = ("human", "gpt")[number % 2]
    if not isinstance(turn, dict) or turn.get("from") != wanted:
        found = turn.get("from") if isinstance(turn, dict) else turn
        raise DataError(f"turn {number} is from {found!r}; expected human and gpt in turn")
    if not isinstance(turn.get("value"), str):
        raise DataError(f"turn {number} has no text")
    return {"from": wanted, "value": _text(turn["value"], f"turn {number}")}


def _text(value: object, what: str) -> str:
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what} has half of a surrogate pair, which is no character") from None
    return text
