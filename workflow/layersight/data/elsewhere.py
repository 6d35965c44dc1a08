"""Training conversations of a hub's data set and the archives of their pictures, in the cache.

    conversations/<data set>-<digest>/   the JSON file, `pictures/`, layersight-conversations.json
    pictures/<archive>-<digest>/         `content/` and layersight-pictures.json

`pictures/` are links to the content of archives, or to folders that a user has put somewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Protocol

from layersight.data.downloads import download
from layersight.data.hub import checked, snapshot, take
from layersight.data.packages import only_one, unpack
from layersight.errors import AssetError
from layersight.models.backbones import CACHE_VARIABLE
from layersight.storage.atomic import atomic_file, atomic_folder
from layersight.storage.space import free_mb, size
from layersight.study import Conversations, FileConversations, HubConversations, Pictures

CONVERSATIONS_MARKER, PICTURES_MARKER = "layersight-conversations.json", "layersight-pictures.json"
CONTENT = "content"


class DataSet(Protocol):
    """A data set of the hub at one commit; both are empty where there is none."""

    @property
    def id(self) -> str:
        """Its name, `organisation/dataset`."""
        ...

    @property
    def revision(self) -> str:
        """The commit."""
        ...


def archive_folder(data: DataSet, pictures: Pictures, cache: Path) -> Path:
    """Return where an archive lies, or will lie, unpacked."""
    where = None if pictures.address else (data.id, data.revision)
    key = [where, pictures.archive, pictures.inside, pictures.sha256]
    name = PurePosixPath(pictures.archive or "").stem
    return cache / "pictures" / f"{slug(name)}-{digest_of(key)}"


def conversations_folder(data: HubConversations, cache: Path) -> Path:
    """Return where conversations lie, or will lie, with links to their pictures."""
    pictures = {
        folder: found.model_dump(exclude={"megabytes", "about"})
        for folder, found in data.pictures.items()
    }
    key = [data.id, data.revision, data.file, pictures]
    return cache / "conversations" / f"{slug(data.id)}-{digest_of(key)}"


def conversations_file(data: Conversations, cache: Path) -> Path:
    """Return the file of conversations from elsewhere."""
    if isinstance(data, FileConversations):
        return Path(data.file)
    return conversations_folder(data, cache) / PurePosixPath(data.file).name


def pictures_folder(data: Conversations, cache: Path) -> Path:
    """Return the folder of the pictures of conversations from elsewhere."""
    if isinstance(data, FileConversations):
        return Path(data.pictures)
    return conversations_folder(data, cache) / "pictures"


def missing_folders(data: Conversations) -> dict[str, str]:
    """Return what only a user can put somewhere and has not: folder of the study, and message."""
    if isinstance(data, FileConversations):
        return {}
    return {
        folder: _missing(folder, found)
        for folder, found in data.pictures.items()
        if found.path is not None and not Path(found.path).expanduser().is_dir()
    }


def fetch_pictures(data: HubConversations, folder: str, cache: Path) -> Path:
    """Fetch, check and unpack the archive of a folder of pictures, unless it is there already.

    The archive is compared with the digest that the hub gives or that is published, every member is
    checked before anything is written, and the marker appears last.

    Args:
        data: the conversations.
        folder: key of `data.pictures`.
        cache: folder shared between studies.

    Returns:
        The marker, `layersight-pictures.json`.

    Raises:
        AssetError: no network, no such file, a damaged or unsafe archive, or too little space.
    """
    return fetch_archive(data, data.pictures[folder], cache)


def fetch_archive(data: DataSet, pictures: Pictures, cache: Path) -> Path:
    """Fetch, check and unpack an archive of pictures, see `fetch_pictures`.

    Args:
        data: the data set that it is a file of, unless it has an address.
        pictures: with `archive`.
        cache: folder shared between studies.

    Returns:
        The marker, `layersight-pictures.json`.

    Raises:
        AssetError: as `fetch_pictures`.
    """
    out = archive_folder(data, pictures, cache)
    marker = out / PICTURES_MARKER
    try:
        out.mkdir(parents=True, exist_ok=True)
        with only_one(out):
            if not marker.is_file():
                _fetch_archive(data, pictures, out)
    except OSError as error:
        raise unwritten(out, error) from None
    return marker


def fetch_conversations(data: HubConversations, cache: Path) -> Path:
    """Fetch and check the JSON of conversations, and put links to their pictures beside it.

    Args:
        data: the conversations, whose archives have been fetched.
        cache: folder shared between studies.

    Returns:
        The marker, `layersight-conversations.json`.

    Raises:
        AssetError: as `fetch_pictures`, or a folder that the user is to make is missing.
    """
    missing = missing_folders(data)
    if missing:
        raise AssetError("; ".join(missing.values()))
    out = conversations_folder(data, cache)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with only_one(out):
            if not (out / CONVERSATIONS_MARKER).is_file():
                _fetch_conversations(data, out, cache)
    except OSError as error:
        raise unwritten(out, error) from None
    return out / CONVERSATIONS_MARKER


def _fetch_conversations(data: HubConversations, out: Path, cache: Path) -> None:
    own = out.parent / f".hub-{out.name}"
    source = hub_file(data, data.file, own)
    digest = checked(source, data.id)
    with atomic_folder(out) as beside:
        take(source, beside / PurePosixPath(data.file).name)
        for folder, pictures in data.pictures.items():
            if pictures.path is not None:
                target = Path(pictures.path).expanduser().absolute()
            else:
                target = archive_folder(data, pictures, cache) / CONTENT / pictures.inside
            link = beside / "pictures" / folder
            if folder == ".":
                link = beside / "pictures"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target, target_is_directory=True)
        record = {"id": data.id, "revision": data.revision, "file": data.file, "sha256": digest}
        text = json.dumps(record, indent=2) + "\n"
        (beside / CONVERSATIONS_MARKER).write_text(text, encoding="utf-8")
    shutil.rmtree(own, ignore_errors=True)


def _fetch_archive(data: DataSet, pictures: Pictures, out: Path) -> None:
    name = str(pictures.archive)
    if pictures.megabytes is not None:
        _check_space(out, pictures.megabytes, name)
    own = out / ".hub"
    if pictures.address is None:
        archive = hub_file(data, name, own)
        digest = checked(archive, data.id)
        if pictures.sha256 not in (None, digest):
            raise AssetError(f"{name} of {data.id}: its SHA-256 is not the one of the study")
    else:
        archive = out / PurePosixPath(name).name
        digest = download(pictures.address, archive, sha256=pictures.sha256)
    content, beside = out / CONTENT, out / f".{CONTENT}"
    for old in (content, beside):
        shutil.rmtree(old, ignore_errors=True)
    beside.mkdir()
    if archive.suffix == ".zip":
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(archive) as file:
            # Whatever it claims to be: a small file may unpack to more than any disk has.
            _check_space(out, sum(each.file_size for each in file.infolist()) / 1e6, name)
    keep = (f"{pictures.inside}/",) if pictures.inside else ()
    count = unpack(archive, beside, keep)
    # At once rather than file by file: there may be half a million.
    os.sync()
    beside.rename(content)
    record = {"archive": name, "sha256": digest, "files": count}
    with atomic_file(out / PICTURES_MARKER) as marker:
        marker.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(own, ignore_errors=True)
    if pictures.address is not None:
        archive.unlink()


def hub_file(data: DataSet, name: str, cache: Path) -> Path:
    """Return a file of a data set, from the user's own cache of the hub or fetched.

    Raises:
        AssetError: no network, no such data set or commit, or no such file in it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            hf_hub_download(
                data.id,
                name,
                repo_type="dataset",
                revision=data.revision,
                local_files_only=True,
            )
        )
    except (LocalEntryNotFoundError, OSError, ValueError):
        found = snapshot(data.id, data.revision, cache, [name], kind="dataset") / name
    if not found.is_file():
        raise AssetError(f"{data.id}: has no file {name} at {data.revision}")
    return found


def _missing(folder: str, pictures: Pictures) -> str:
    about = f" ({pictures.about})" if pictures.about else ""
    return (
        f"data.pictures.{folder}.path: {pictures.path}: no such folder; put the pictures there "
        f"that the conversations call {folder}/...{about}, or name the folder in which they are"
    )


def _check_space(folder: Path, megabytes: float, name: str) -> None:
    free = free_mb(folder)
    if free < megabytes:
        raise AssetError(
            f"{folder}: {size(free)} free, but {name} needs {size(megabytes)}; free some space, or "
            f"set assets.cache in the study or {CACHE_VARIABLE} to a larger disk"
        )


def unwritten(folder: Path, error: OSError) -> AssetError:
    """Return the error for a folder of the cache that cannot be written."""
    return AssetError(
        f"{folder}: cannot be written ({error}); free some space, or set assets.cache in the study "
        f"or {CACHE_VARIABLE} to a folder that you may write to"
    )


def slug(name: str) -> str:
    """Return a name as a folder's name can begin."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "archive"


def digest_of(key: object) -> str:
    """Return a short digest of plain data, which tells folders of one name apart."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
