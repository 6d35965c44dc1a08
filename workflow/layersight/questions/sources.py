"""Where the files and pictures of a question set are, and fetching those of the hub.

questions/<data set>-<digest>/   the files and layersight-questions.json
pictures/<archive>-<digest>/     as `data.elsewhere` has them
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from layersight.data.elsewhere import (
    CONTENT,
    PICTURES_MARKER,
    DataSet,
    archive_folder,
    digest_of,
    fetch_archive,
    hub_file,
    slug,
    unwritten,
)
from layersight.data.hub import checked, take
from layersight.data.packages import only_one
from layersight.errors import AssetError
from layersight.questions.cocoqa import FILES as COCOQA_FILES
from layersight.storage.atomic import atomic_folder
from layersight.study import FileQuestions, HubQuestions, Study
from layersight.study_data import Pictures
from layersight.study_questions import QuestionSet

QUESTIONS_MARKER = "layersight-questions.json"


class Missing(NamedTuple):
    """What only a person can put somewhere, and has not.

    Attributes:
        what: the file or folder.
        message: which key names it, and what would be right.
        megabytes: its size; None: not known.
    """

    what: str
    message: str
    megabytes: int | None


@dataclass(frozen=True)
class _NoDataSet:
    """Stands for the data set of an archive that has an address."""

    id: str = ""
    revision: str = ""


def questions_folder(asked: HubQuestions, cache: Path) -> Path:
    """Return where the files of a set of the hub lie, or will lie."""
    key = [asked.id, asked.revision, asked.files, asked.sha256]
    return cache / "questions" / f"{slug(asked.id)}-{digest_of(key)}"


def files_of(asked: QuestionSet, cache: Path) -> list[Path]:
    """Return the files that a set is read from; for `cocoqa` the folder, and the captions."""
    if isinstance(asked, HubQuestions):
        folder = questions_folder(asked, cache)
        return [folder / PurePosixPath(name).name for name in asked.files]
    found = [asked.path] if asked.captions is None else [asked.path, asked.captions]
    return [Path(each).expanduser() for each in found]


def pictures_of(asked: QuestionSet, cache: Path) -> Path | None:
    """Return the folder of a set's pictures; None if it has none, or in its own files."""
    pictures = asked.pictures
    if pictures is None:
        return None
    if pictures.path is not None:
        return Path(pictures.path).expanduser()
    return archive_folder(data_set(asked), pictures, cache) / CONTENT / pictures.inside


def archive_of(asked: QuestionSet) -> Pictures | None:
    """Return the archive that a set's pictures are fetched as; None if nothing is fetched."""
    found = asked.pictures
    return found if found is not None and found.path is None else None


def markers_of(asked: QuestionSet, cache: Path) -> list[Path]:
    """Return what appears last when what a set takes from elsewhere has been fetched."""
    found = []
    if isinstance(asked, HubQuestions):
        found.append(questions_folder(asked, cache) / QUESTIONS_MARKER)
    archive = archive_of(asked)
    if archive is not None:
        found.append(archive_folder(data_set(asked), archive, cache) / PICTURES_MARKER)
    return found


def inputs_of(asked: QuestionSet, cache: Path) -> list[str]:
    """Return the files that reading a set depends on: markers of what is fetched, and files that
    are there; what is missing is named by `missing`."""
    found = [str(path) for path in markers_of(asked, cache)]
    if isinstance(asked, HubQuestions):
        return found
    paths = files_of(asked, cache)
    if asked.form == "cocoqa":
        paths = [*(paths[0] / name for name in COCOQA_FILES), *paths[1:]]
    return found + [str(path) for path in paths if path.is_file()]


def data_set(asked: QuestionSet) -> DataSet:
    """Return the data set that an archive of a set can be a file of."""
    return asked if isinstance(asked, HubQuestions) else _NoDataSet()


def missing(study: Study) -> list[Missing]:
    """Return the files and folders of all sets that only a person can put, and that are missing.

    Args:
        study: the study.
    """
    found = []
    for name, asked in study.questions.items():
        if isinstance(asked, FileQuestions):
            found += _missing_files(f"questions.{name}", asked)
        pictures = asked.pictures
        if pictures is None or pictures.path is None:
            continue
        if not Path(pictures.path).expanduser().is_dir():
            key = f"questions.{name}.pictures.path"
            message = f"{key}: {pictures.path}: no such folder of pictures"
            message += _told(pictures.about) or "; name the folder in which they are"
            found.append(Missing(pictures.path, message, pictures.megabytes))
    return found


def _missing_files(key: str, asked: FileQuestions) -> list[Missing]:
    told = _told(asked.about)
    found = []
    path = Path(asked.path).expanduser()
    folder = asked.form == "cocoqa"
    if not (path.is_dir() if folder else path.is_file()):
        what = "folder" if folder else "file"
        right = "the folder of COCO-QA's four text files" if folder else f"a file ({asked.form})"
        message = f"{key}.path: {asked.path}: no such {what}{told or f'; name {right}'}"
        found.append(Missing(asked.path, message, None))
    if asked.captions is not None and not Path(asked.captions).expanduser().is_file():
        message = f"{key}.captions: {asked.captions}: no such file"
        message += told or "; name Karpathy's dataset_coco.json"
        found.append(Missing(asked.captions, message, None))
    return found


def _told(about: str | None) -> str:
    return f"; {about}" if about else ""


def fetch_questions(asked: HubQuestions, cache: Path) -> Path:
    """Fetch and check the files of a set of the hub, unless they are there already.

    Args:
        asked: the set.
        cache: folder shared between studies.

    Returns:
        The marker, `layersight-questions.json`.

    Raises:
        AssetError: no network, no such data set, commit or file, or another file than published.
    """
    out = questions_folder(asked, cache)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with only_one(out):
            if not (out / QUESTIONS_MARKER).is_file():
                _fetch(asked, out)
    except OSError as error:
        raise unwritten(out, error) from None
    return out / QUESTIONS_MARKER


def fetch_question_pictures(asked: QuestionSet, cache: Path) -> Path:
    """Fetch, check and unpack the archive of a set's pictures; return its marker.

    Raises:
        AssetError: as `data.elsewhere.fetch_pictures`.
    """
    archive = archive_of(asked)
    if archive is None:
        raise ValueError("nothing is fetched for the pictures of this set")
    return fetch_archive(data_set(asked), archive, cache)


def _fetch(asked: HubQuestions, out: Path) -> None:
    own = out.parent / f".hub-{out.name}"
    found = {name: hub_file(asked, name, own) for name in asked.files}
    digests = {name: checked(path, asked.id) for name, path in found.items()}
    for name, stated in zip(asked.files, asked.sha256 or (), strict=False):
        if digests[name] != stated:
            raise AssetError(
                f"{name} of {asked.id}: its SHA-256 is {digests[name]}, but the study says "
                f"{stated}; is it the pinned file?"
            )
    with atomic_folder(out) as beside:
        for name, path in found.items():
            take(path, beside / PurePosixPath(name).name)
        record = {"id": asked.id, "revision": asked.revision, "sha256": digests}
        text = json.dumps(record, indent=2) + "\n"
        (beside / QUESTIONS_MARKER).write_text(text, encoding="utf-8")
    shutil.rmtree(own, ignore_errors=True)
