"""What a study says of sets of questions from elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from layersight.strict import Strict
from layersight.study_backbone import HubId, Revision
from layersight.study_data import Pictures, Sha256, is_inside

Form = Literal["jsonl", "mmlu", "scienceqa", "cocoqa"]
Input = Literal["image", "text"]
TEXT = "_text"
"""What the name of a task on words alone ends with."""
_WITHOUT_PICTURES = ("mmlu",)
_OWN_PICTURES = ("scienceqa",)
_WITHOUT_CAPTIONS = ("mmlu", "scienceqa")


class _Questions(Strict):
    form: Form
    """How the items are written. `jsonl`: a line an item, see docs/questions.md. `mmlu`: Parquet
    with `question`, `subject`, `choices` and `answer`. `scienceqa`: Parquet with `image`,
    `question`, `choices`, `answer`, `hint` and `topic`; without a picture where `inputs` is
    `[text]`, else with one. `cocoqa`: the four text files of COCO-QA and the captions of
    Karpathy's `dataset_coco.json`, one question a picture."""
    items: PositiveInt
    """Items taken, a seeded choice; fewer published ones stop the run."""
    inputs: Annotated[list[Input], Field(min_length=1)]
    """What is asked about. `image`: the picture; the task is called as the set. `text`: captions in
    its place, or where a set has none the question alone; the task's name ends with `_text`."""
    rows: PositiveInt | None = None
    """Items as published; another number stops the run."""
    pictures: Pictures | None = None
    """Where the pictures are; `image` of an item is a path in there."""
    guide: str | None = None
    """What follows every question; null asks for a single word or phrase, and where there are
    choices for the letter."""
    opening: Annotated[str, Field(min_length=1)] | None = None
    """Words that every answer begins with, such as `Answer:`; the model goes on from there, also in
    the probe sets of questions. null leaves the whole answer to it."""
    max_new_tokens: PositiveInt | None = None
    """Longest generated answer; null takes `benchmarks.max_new_tokens`."""
    text_tokens: PositiveInt | None = None
    """Mean tokens of a question besides the picture, from which costs are predicted; null: 100."""

    @field_validator("inputs")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError(f"names {value[0]} twice")
        return value

    @model_validator(mode="after")
    def _fits_the_form(self) -> _Questions:
        shows = "image" in self.inputs
        if shows and self.form in _WITHOUT_PICTURES:
            raise ValueError(f"inputs: image, but the form {self.form} has no pictures")
        if shows and "text" in self.inputs and self.form in _WITHOUT_CAPTIONS:
            raise ValueError(
                f"inputs: image and text, but the form {self.form} has no captions that could "
                f"stand for a picture; make two sets of it, with [image] and with [text]"
            )
        if shows and self.form not in _OWN_PICTURES and self.pictures is None:
            raise ValueError("pictures: required with inputs: image; say where the pictures are")
        if self.pictures is not None and (not shows or self.form in _OWN_PICTURES):
            raise ValueError(
                "pictures: read by nothing: "
                + (f"the form {self.form} has its own" if shows else "inputs has no image")
            )
        return self

    def tasks(self, name: str) -> dict[str, Input]:
        """Return the benchmark tasks that the set makes, and what each is asked about.

        Args:
            name: of the set.
        """
        names: dict[Input, str] = {"image": name, "text": name + TEXT}
        return {names[each]: each for each in names if each in self.inputs}


class FileQuestions(_Questions):
    """Questions in a file."""

    source: Literal["file"]
    path: Annotated[str, Field(min_length=1)]
    """The file; for `cocoqa` the folder of `questions.txt`, `answers.txt`, `img_ids.txt` and
    `types.txt`."""
    captions: Annotated[str, Field(min_length=1)] | None = None
    """For `cocoqa`: Karpathy's `dataset_coco.json`."""
    split: str | None = None
    """For `cocoqa`: which of Karpathy's splits the pictures are of, such as `restval`; null:
    all."""
    about: str | None = None
    """Where people find the files, for the message when they are missing."""

    @model_validator(mode="after")
    def _of_the_form(self) -> FileQuestions:
        if self.form == "cocoqa" and self.captions is None:
            raise ValueError("captions: required with form: cocoqa; name dataset_coco.json")
        for key in ("captions", "split"):
            if self.form != "cocoqa" and getattr(self, key) is not None:
                raise ValueError(f"{key}: is no key of the form {self.form}")
        own = self.pictures
        if own is not None and own.path is None and own.address is None:
            raise ValueError("pictures.archive: must be an address (https://...): no data set")
        return self


class HubQuestions(_Questions):
    """Questions in a data set of the Hugging Face hub."""

    source: Literal["hub"]
    id: HubId
    """Name of the data set on the hub, `organisation/dataset`."""
    revision: Revision
    """The commit, 40 hexadecimal digits; branches and tags can move."""
    files: Annotated[list[str], Field(min_length=1)]
    """Files in there, read in this order."""
    rows: PositiveInt
    """Items as published; another number stops the run."""
    sha256: list[Sha256] | None = None
    """Digests of the files, in their order. All are compared with the hub's own anyway."""
    megabytes: PositiveInt | None = None
    """Size of the files, in MB (10^6 bytes)."""

    @field_validator("files")
    @classmethod
    def _of_the_data_set(cls, value: list[str]) -> list[str]:
        for name in value:
            if not is_inside(name):
                raise ValueError(f"must be files of the data set, not {name!r}")
        if len({PurePosixPath(name).name for name in value}) < len(value):
            raise ValueError("two of the files have one name")
        return value

    @model_validator(mode="after")
    def _of_the_hub(self) -> HubQuestions:
        if self.form == "cocoqa":
            raise ValueError("form: cocoqa is read from files: source: file")
        if self.sha256 is not None and len(self.sha256) != len(self.files):
            raise ValueError(f"sha256: {len(self.sha256)} digests of {len(self.files)} files")
        return self


QuestionSet = Annotated[FileQuestions | HubQuestions, Field(discriminator="source")]


def check_names(questions: Mapping[str, QuestionSet], taken: Collection[str]) -> None:
    """Refuse sets of less than two items, and whose tasks have the name of something else.

    Raises:
        ValueError: the message begins with the key.
    """
    names = [task for name, own in questions.items() for task in own.tasks(name)]
    for name in names:
        if name in taken or names.count(name) > 1:
            raise ValueError(f"questions: a set makes a task {name}, which there is already")
    for name, own in questions.items():
        if own.items < 2:
            raise ValueError(f"questions.{name}.items: must be at least 2")


def check_probes(questions: Mapping[str, QuestionSet], wanted: str, items: int) -> None:
    """Refuse a set that no probe sets can be made of.

    Raises:
        ValueError: there is no such set, it has no pictures or captions, or too few items.
    """
    if wanted not in questions:
        known = ", ".join(questions) or "none"
        raise ValueError(f"probes.from: {wanted!r} is none of `questions`: {known}")
    own = questions[wanted]
    if set(own.inputs) != {"image", "text"}:
        raise ValueError(
            f"probes.from: pictures are compared with their captions, but "
            f"questions.{wanted}.inputs is {', '.join(own.inputs)}; must be image, text"
        )
    if own.items < items:
        raise ValueError(
            f"probes.items: {items} items, but questions.{wanted}.items is {own.items}"
        )


def check_patched(questions: Mapping[str, QuestionSet], task: str, items: int) -> None:
    """Refuse more items to be patched than a set has.

    Raises:
        ValueError: so it is.
    """
    for name, own in questions.items():
        if task in own.tasks(name) and items > own.items:
            raise ValueError(
                f"patching.items: {items} items asked of {task}, which has "
                f"questions.{name}.items = {own.items}"
            )
