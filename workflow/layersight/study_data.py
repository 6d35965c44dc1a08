"""What a study says of training conversations from elsewhere, and of their pictures."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, StringConstraints, field_validator, model_validator

from layersight.strict import Strict
from layersight.study_backbone import HubId

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ADDRESS = re.compile(r"https?://[^\s/]+/\S+")
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def is_inside(path: str) -> bool:
    """Return whether a path stays in the folder that it is read in."""
    parts = PurePosixPath(path).parts
    unsafe = path.startswith("/") or ".." in parts or "\\" in path or not path.isprintable()
    return bool(parts) and not unsafe


class _Conversations(Strict):
    text_tokens: PositiveInt | None = None
    """Mean tokens of a conversation besides picture and system prompt, from which costs are
    predicted; null takes the mean of the conversations that studies make, which is 25."""


class FileConversations(_Conversations):
    """Training conversations in a file, with their pictures in a folder."""

    source: Literal["llava", "parquet"]
    """`llava`: LLaVA's JSON, a list of `{id, image, conversations}`. `parquet`: a table, or a
    folder of its parts, with the columns of `data/instruct.parquet`."""
    file: str
    """The JSON file; the table, or the folder of its parts."""
    pictures: str
    """Folder of the pictures; `image` or `image_id` is a path in it. They pass through the vision
    encoder as training reads them."""


class Pictures(Strict):
    """One folder of pictures: an archive that is fetched, or a folder that is there already."""

    archive: str | None = None
    """A file of the data set's own repository, or an address (`https://...`): a zip or tar file
    that is fetched, checked and unpacked."""
    inside: str = ""
    """Folder in the archive whose content it is; empty: all."""
    megabytes: PositiveInt | None = None
    """Size of the archive, in MB (10^6 bytes)."""
    sha256: Sha256 | None = None
    """Digest of the archive. What comes from the hub is compared with the hub's own anyway."""
    path: str | None = None
    """A folder that is there already; nothing is fetched then."""
    about: str | None = None
    """Where people find the pictures that cannot be fetched by themselves."""

    @field_validator("inside")
    @classmethod
    def _in_the_archive(cls, value: str) -> str:
        if value and not is_inside(value):
            raise ValueError(f"must be a folder in the archive, not {value!r}")
        return value.strip("/")

    @model_validator(mode="after")
    def _one_of_them(self) -> Pictures:
        if self.archive is None and self.path is None:
            raise ValueError(
                "names neither an archive to fetch nor the path of a folder that is there"
            )
        inside = self.archive is None or (is_inside(self.archive) and "://" not in self.archive)
        if not inside and self.address is None:
            raise ValueError(
                f"archive: must be a file of the data set or an address (https://...), not "
                f"{self.archive!r}"
            )
        return self

    @property
    def address(self) -> str | None:
        """Address of the archive; None if it is a file of the data set, or none is fetched."""
        found = self.archive is not None and _ADDRESS.fullmatch(self.archive)
        return self.archive if found else None


class HubConversations(_Conversations):
    """Training conversations in LLaVA's JSON, from a data set of the Hugging Face hub."""

    source: Literal["hub"]
    id: HubId
    """Name of the data set on the hub, `organisation/dataset`."""
    revision: str
    """The commit, 40 hexadecimal digits; branches and tags can move."""
    file: str
    """The JSON file in there."""
    rows: PositiveInt
    """Conversations as published; another number stops the run."""
    megabytes: PositiveInt | None = None
    """Size of the file, in MB (10^6 bytes)."""
    pictures: Annotated[dict[str, Pictures], Field(min_length=1)]
    """Folder as `image` in the JSON begins (`.` for all), and where its pictures come from."""

    @field_validator("revision")
    @classmethod
    def _commit(cls, value: str) -> str:
        if not _COMMIT.fullmatch(value):
            raise ValueError(
                f"must be a commit, 40 hexadecimal digits, not {value!r}: branches and tags can "
                "move"
            )
        return value

    @field_validator("file")
    @classmethod
    def _of_the_data_set(cls, value: str) -> str:
        if not is_inside(value):
            raise ValueError(f"must be a file of the data set, not {value!r}")
        return value

    @field_validator("pictures")
    @classmethod
    def _folders(cls, value: dict[str, Pictures]) -> dict[str, Pictures]:
        for folder in value:
            if folder != "." and (not is_inside(folder) or folder != str(PurePosixPath(folder))):
                raise ValueError(
                    f"{folder!r} is no folder such as coco/train2017; `.` stands for all pictures"
                )
            if any(folder != other and _holds(other, folder) for other in value):
                raise ValueError(f"{folder!r} lies in another of these folders")
        return value


def _holds(outer: str, inner: str) -> bool:
    return outer == "." or inner.startswith(f"{outer}/")


Conversations = Annotated[FileConversations | HubConversations, Field(discriminator="source")]
