"""The data stage: every table of a study, from the fetched packages to the benchmark items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from layersight.data.benchmarks import benchmark_rows
from layersight.data.concepts import (
    Concept,
    EmojiPackages,
    concept_styles,
    emoji_concepts,
    emoji_pictures,
    synthetic_concepts,
)
from layersight.data.conversations import align_rows, instruct_rows
from layersight.data.images import Picture, drawn_shape, pictogram, picture_rows
from layersight.data.probes import probe_rows
from layersight.data.schemas import ALIGN, BENCHMARK, CONCEPTS, IMAGES, INSTRUCT, PROBE
from layersight.errors import DataError
from layersight.storage.tables import read_table, write_table
from layersight.study import Study


def make_concepts(study: Study, cache: Path, out: Path) -> None:
    """Write the table of concepts.

    Args:
        study: the study.
        cache: folder of the fetched packages; not read by a synthetic study.
        out: Parquet file, schema `CONCEPTS`.

    Raises:
        AssetError: a package has not been fetched.
        StudyError: a subgroup or style that the source does not have.
        DataError: a package's table is not readable.
    """
    if study.concepts.source == "emoji":
        concepts = emoji_concepts(study, EmojiPackages.of_cache(cache))
    else:
        concepts = synthetic_concepts(study)
    write_table(out, [asdict(concept) for concept in concepts], CONCEPTS)


def make_images(study: Study, concepts: Path, cache: Path, out: Path) -> None:
    """Write the table of pictures: every concept in every style of the study.

    Args:
        study: the study.
        concepts: table of `make_concepts`.
        cache: folder of the fetched packages; not read by a synthetic study.
        out: Parquet file, schema `IMAGES`.

    Raises:
        AssetError, StudyError: as `make_concepts`.
        DataError: a picture is not readable, or a concept is not the study's.
    """
    size = study.concepts.image_size
    rows = read_concepts(concepts)
    wanted = [(concept, style) for concept in rows for style in concept_styles(study)]
    pictures = []
    if study.concepts.source == "emoji":
        files = emoji_pictures(study, EmojiPackages.of_cache(cache))
        for concept, style in wanted:
            if concept.concept not in files:
                raise DataError(
                    f"{concepts}: {concept.concept} is no concept of this study; rerun the rule "
                    f"that makes this table"
                )
            path = files[concept.concept][style]
            pictures.append(Picture(concept.concept, style, partial(pictogram, path, size)))
    else:
        for concept, style in wanted:
            if len(concept.tags) != 2:
                raise DataError(
                    f"{concepts}: {concept.concept}: tags are {', '.join(concept.tags) or 'empty'};"
                    f" a drawn shape has two, its colour and its shape"
                )
            colour, shape = concept.tags
            draw = partial(drawn_shape, colour, shape, style, size)
            pictures.append(Picture(concept.concept, style, draw))
    write_table(out, picture_rows(pictures, study.compute.training_threads), IMAGES)


def make_align(study: Study, concepts: Path, out: Path) -> None:
    """Write the conversations of stage 1, in training order.

    Args:
        study: the study.
        concepts: table of `make_concepts`.
        out: Parquet file, schema `ALIGN`, `align.steps` × `align.batch_size` rows.

    Raises:
        DataError: nothing to train on.
    """
    write_table(out, align_rows(study, read_concepts(concepts)), ALIGN)


def make_instruct(study: Study, concepts: Path, out: Path) -> None:
    """Write the conversations of stage 2, in training order.

    Args:
        study: the study.
        concepts: table of `make_concepts`.
        out: Parquet file, schema `INSTRUCT`, `tuning.steps` × `tuning.batch_size` rows.

    Raises:
        DataError: nothing to train on.
        StudyError: the mixture asks for keywords that no concept has.
    """
    write_table(out, instruct_rows(study, read_concepts(concepts)), INSTRUCT)


def make_probes(study: Study, concepts: Path, outs: Mapping[str, Path]) -> None:
    """Write the probe sets.

    Args:
        study: the study.
        concepts: table of `make_concepts`.
        outs: Parquet file, schema `PROBE`, for each name of `layersight.study.PROBES` wanted.
    """
    sets = probe_rows(study, read_concepts(concepts))
    for name, out in outs.items():
        write_table(out, sets[name], PROBE)


def make_benchmarks(study: Study, concepts: Path, instruct: Path, outs: Mapping[str, Path]) -> None:
    """Write the benchmark items.

    Args:
        study: the study.
        concepts: table of `make_concepts`.
        instruct: table of `make_instruct`; it defines the majority answers.
        outs: Parquet file, schema `BENCHMARK`, for each name of `layersight.study.BENCHMARKS`
            wanted.

    Raises:
        DataError: a split would be empty.
    """
    trained = read_table(instruct, INSTRUCT).to_pylist()
    items = benchmark_rows(study, read_concepts(concepts), trained)
    for name, out in outs.items():
        write_table(out, items[name], BENCHMARK)


def read_concepts(path: Path) -> list[Concept]:
    """Read a table of concepts.

    Raises:
        DataError: missing, empty or not such a table, or a concept occurs twice.
    """
    rows: Sequence[dict[str, Any]] = read_table(path, CONCEPTS).to_pylist()
    if not rows:
        raise DataError(f"{path}: has no rows")
    counts = Counter(row["concept"] for row in rows)
    name, count = counts.most_common(1)[0]
    if count > 1:
        raise DataError(f"{path}: the concept {name} occurs {count} times; expected once")
    return [
        Concept(**row | {"tags": tuple(row["tags"]), "synonyms": tuple(row["synonyms"])})
        for row in rows
    ]
