"""The things that a study shows: their names, kinds and keywords, and where their pictures are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from layersight.data.packages import fetched_folder
from layersight.errors import DataError, StudyError
from layersight.study import Study

COLOURS = ("red", "blue", "green", "yellow", "black", "purple", "orange", "brown")
SHAPES = (
    "circle",
    "ellipse",
    "square",
    "rectangle",
    "triangle",
    "star",
    "cross",
    "diamond",
    "hexagon",
)
EMOJI_STYLES = ("openmoji", "noto", "fluent")
SYNTHETIC_STYLES = ("filled", "outlined", "striped")
EMOJI_PACKAGES = ("openmoji", "emoji-datasource-google", "fluentui-emoji", "emojibase-data")
_MOST_TAGS = 5
# Lists of short names in common use. Where two of them differ, both names are in use.
_NAME_LISTS = ("emojibase", "github", "iamcal", "joypixels")


@dataclass(frozen=True)
class Concept:
    """One thing that can be shown.

    Attributes:
        concept: identifier, the slug of the label.
        label: its name, lower case.
        kind: kind of thing, a key of the study's `concepts.kinds`.
        subgroup: group of similar things within the kind.
        tags: keywords, at most five, none of them a word of the label.
        synonyms: other names that count as right.
        unseen: whether no training set contains it.
    """

    concept: str
    label: str
    kind: str
    subgroup: str
    tags: tuple[str, ...]
    synonyms: tuple[str, ...]
    unseen: bool


@dataclass(frozen=True)
class EmojiPackages:
    """Folders of the unpacked packages that pictograms come from."""

    openmoji: Path
    google: Path
    fluent: Path
    emojibase: Path

    @classmethod
    def of_cache(cls, cache: Path) -> EmojiPackages:
        """Find the packages in the cache.

        Raises:
            AssetError: one of them has not been fetched.
        """
        return cls(*(fetched_folder(key, cache) / "package" for key in EMOJI_PACKAGES))


def concept_styles(study: Study) -> list[str]:
    """Return the study's styles, the seen ones first.

    Raises:
        StudyError: a style that the study's source does not have.
    """
    known = EMOJI_STYLES if study.concepts.source == "emoji" else SYNTHETIC_STYLES
    styles = [*study.concepts.seen_styles, study.concepts.unseen_style]
    for style in styles:
        if style not in known:
            key = "unseen_style" if style == study.concepts.unseen_style else "seen_styles"
            raise StudyError(
                f"the study: concepts.{key}: unknown style {style!r}; the source "
                f"{study.concepts.source} has {', '.join(known)}"
            )
    return styles


def emoji_concepts(study: Study, packages: EmojiPackages) -> list[Concept]:
    """Return the pictograms of the study's subgroups that every style has.

    Order: kinds and subgroups as in the study, then as in Unicode. Of two pictograms with one
    label the first is kept: two things with one name could not be told apart in an answer.

    Raises:
        StudyError: a subgroup that no pictogram belongs to, or an unknown style.
        DataError: a package's table is not readable.
    """
    return [concept for concept, _ in _emoji(study, packages)]


def emoji_pictures(study: Study, packages: EmojiPackages) -> dict[str, dict[str, Path]]:
    """Return the picture file of every concept in every style: `[concept][style]`.

    Raises:
        StudyError, DataError: as `emoji_concepts`.
    """
    return {concept.concept: files for concept, files in _emoji(study, packages)}


def synthetic_concepts(study: Study) -> list[Concept]:
    """Return coloured shapes: a concept is a colour and a shape, its subgroup the shape.

    Raises:
        StudyError: a subgroup that is no known shape, or an unknown style.
    """
    concept_styles(study)
    found = []
    for kind, subgroups in study.concepts.kinds.items():
        for shape in subgroups:
            if shape not in SHAPES:
                raise _unknown_subgroup(study, kind, shape, SHAPES)
            for colour in COLOURS[: study.concepts.limit_per_subgroup]:
                found.append(
                    Concept(
                        concept=f"{colour}-{shape}",
                        label=f"{colour} {shape}",
                        kind=kind,
                        subgroup=shape,
                        tags=(colour, shape),
                        synonyms=(),
                        unseen=shape in study.concepts.unseen_subgroups,
                    )
                )
    return found


def fair_negative(shown: Concept, asked: Concept) -> bool:
    """Say whether "no" is surely right when `shown` is in the picture and `asked` is asked for.

    A picture of a dog face also shows a dog: a pair is refused if the words of one label are among
    those of the other, or if one's label is a keyword or another name of the other.
    """
    if shown.concept == asked.concept:
        return False
    first, second = set(_words(shown.label)), set(_words(asked.label))
    if first <= second or second <= first:
        return False
    return asked.label not in (*shown.tags, *shown.synonyms) and shown.label not in (
        *asked.tags,
        *asked.synonyms,
    )


def _emoji(study: Study, packages: EmojiPackages) -> list[tuple[Concept, dict[str, Path]]]:
    concept_styles(study)
    joined = _join_styles(packages)
    rows = []
    for kind, subgroups in study.concepts.kinds.items():
        for subgroup in subgroups:
            if subgroup not in joined:
                raise _unknown_subgroup(study, kind, subgroup, joined)
            for label, tags, synonyms, files in joined[subgroup]:
                concept = Concept(
                    concept=_slug(label),
                    label=label,
                    kind=kind,
                    subgroup=subgroup,
                    tags=_clean_tags(label, tags),
                    synonyms=_clean_synonyms(label, synonyms),
                    unseen=subgroup in study.concepts.unseen_subgroups,
                )
                rows.append((concept, files))
    return _without_foreign_names(_limited(_without_namesakes(rows), study))


def _without_namesakes(
    rows: list[tuple[Concept, dict[str, Path]]],
) -> list[tuple[Concept, dict[str, Path]]]:
    kept: dict[str, tuple[Concept, dict[str, Path]]] = {}
    for row in rows:
        kept.setdefault(row[0].concept, row)
    return list(kept.values())


def _limited(
    rows: list[tuple[Concept, dict[str, Path]]], study: Study
) -> list[tuple[Concept, dict[str, Path]]]:
    limit = study.concepts.limit_per_subgroup
    count: dict[str, int] = {}
    kept = []
    for row in rows:
        subgroup = row[0].subgroup
        count[subgroup] = count.get(subgroup, 0) + 1
        if limit is None or count[subgroup] <= limit:
            kept.append(row)
    return kept


def _without_foreign_names(
    rows: list[tuple[Concept, dict[str, Path]]],
) -> list[tuple[Concept, dict[str, Path]]]:
    """Drop synonyms that name another concept, and keywords that name an unseen one.

    "dog", which shortens the label, is a right answer to the picture of a dog face; "camel" for a
    llama would not be. A keyword "bird" would bring an unseen concept's name into training.
    """
    labels = {concept.label for concept, _ in rows}
    unseen = {concept.label for concept, _ in rows if concept.unseen}
    kept = []
    for concept, files in rows:
        words = set(_words(concept.label))
        own = tuple(
            name for name in concept.synonyms if name not in labels or set(_words(name)) <= words
        )
        tags = tuple(tag for tag in concept.tags if concept.unseen or tag not in unseen)
        kept.append((replace(concept, synonyms=own, tags=tags), files))
    return kept


def _join_styles(
    packages: EmojiPackages,
) -> dict[str, list[tuple[str, list[str], list[str], dict[str, Path]]]]:
    """Join the styles: label, tags, names and picture files, by subgroup, in Unicode's order."""
    openmoji = {
        _code(row["hexcode"]): packages.openmoji / "color" / "svg" / f"{row['hexcode']}.svg"
        for row in _read(packages.openmoji / "data" / "openmoji.json")
    }
    google = {
        _code(row["unified"]): packages.google / "img" / "google" / "64" / row["image"]
        for row in _read(packages.google / "emoji.json")
        if row["has_img_google"]
    }
    folder = packages.emojibase / "en"
    names = [_read(folder / "shortcodes" / f"{source}.json") for source in _NAME_LISTS]
    subgroups = {row["order"]: row["key"] for row in _read(folder / "messages.json")["subgroups"]}
    rows = [row for row in _read(folder / "data.json") if "subgroup" in row]
    joined: dict[str, list[tuple[str, list[str], list[str], dict[str, Path]]]] = {}
    for row in sorted(rows, key=lambda row: int(row["order"])):
        code = _code(row["hexcode"])
        fluent = packages.fluent / "icons" / "modern" / f"{_slug(row['label'])}.svg"
        if code not in openmoji or code not in google or not fluent.is_file():
            continue
        given = [source.get(row["hexcode"], []) for source in names]
        flat = [name for some in given for name in ([some] if isinstance(some, str) else some)]
        files = {"openmoji": openmoji[code], "noto": google[code], "fluent": fluent}
        joined.setdefault(subgroups[row["subgroup"]], []).append(
            (row["label"].lower(), row.get("tags", []), flat, files)
        )
    return joined


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not readable ({error}); delete the package's folder and fetch it again"
        ) from None


def _code(hexcode: str) -> str:
    """Return a code without variation selectors, which some of the packages leave out."""
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


def _slug(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("&", "and")).strip("-")


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _clean_tags(label: str, tags: Iterable[str]) -> tuple[str, ...]:
    words = set(_words(label))
    kept = dict.fromkeys(tag.strip().lower() for tag in tags)
    return tuple(tag for tag in kept if tag and not set(_words(tag)) <= words)[:_MOST_TAGS]


def _clean_synonyms(label: str, names: Iterable[str]) -> tuple[str, ...]:
    """Make plain words of short names; those with a number ("dog2") are no names but codes."""
    plain = dict.fromkeys(" ".join(_words(name.replace("_", " "))) for name in names)
    own = " ".join(_words(label))
    return tuple(name for name in plain if name != own and not re.search(r"\d", name) and name)


def _unknown_subgroup(study: Study, kind: str, subgroup: str, known: Iterable[str]) -> StudyError:
    return StudyError(
        f"the study: concepts.kinds.{kind}: unknown subgroup {subgroup!r}; the source "
        f"{study.concepts.source} has {', '.join(sorted(known))}"
    )
