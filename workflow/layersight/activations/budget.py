"""How much is stored of a probe set, known before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from layersight.activations.streams import EVERY, RESIDUAL, stored_name
from layersight.data.conversation import Role, Tokens
from layersight.errors import DataError
from layersight.storage.space import free_mb, size
from layersight.study import Activations, Study


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a language model.

    Attributes:
        layers: blocks L.
        width: of the residual stream.
        heads_width: of all heads' outputs together.
    """

    layers: int
    width: int
    heads_width: int


@dataclass(frozen=True)
class Counts:
    """Inputs of a probe set.

    Attributes:
        items: how many.
        with_image: those with a picture.
        with_text: those with words of the user.
        with_both: those with a picture and words.
        tokens: of all items together.
    """

    items: int
    with_image: int
    with_text: int
    with_both: int
    tokens: float


@dataclass(frozen=True)
class Stored:
    """What one stream takes.

    Attributes:
        rows: vectors a layer.
        layers: layers that have it.
        bytes: of all vectors, as numbers.
    """

    rows: float
    layers: int
    bytes: float


def counted(rows: Sequence[Tokens]) -> Counts:
    """Count tokenised inputs."""
    return Counts(
        len(rows),
        sum(int(Role.IMAGE) in row.roles for row in rows),
        sum(int(Role.TEXT) in row.roles for row in rows),
        sum({int(Role.IMAGE), int(Role.TEXT)} <= set(row.roles) for row in rows),
        sum(len(row.input_ids) for row in rows),
    )


def activation_bytes(settings: Activations, shape: ModelShape, counts: Counts) -> dict[str, Stored]:
    """Return what every stored stream of a probe set takes, by its name on disk.

    Files are larger by item ids and what Parquet needs, a few per cent at most.

    Args:
        settings: streams, sites and type on disk.
        shape: of the language model.
        counts: of the probe set.
    """
    number = {"float16": 2, "float32": 4}[settings.dtype]
    rows: dict[str, float] = {
        name: counts.with_image
        if "image" in name
        else counts.with_text
        if "text" in name
        else counts.items
        for name in settings.stored
    }
    # An input without a picture has one order only.
    if "one_text_reversed" in rows:
        rows["one_text_reversed"] = counts.with_both
    if EVERY in settings.streams:
        rows[EVERY] = counts.tokens
    found = {}
    for site in settings.sites:
        layers = shape.layers + (site == RESIDUAL)
        width = shape.heads_width if site == "heads" else shape.width
        for name, count in rows.items():
            found[stored_name(name, site)] = Stored(count, layers, count * layers * width * number)
    return found


def check_space(
    study: Study, what: str, folder: Path, needed: dict[str, Stored], kept: float = 0.0
) -> None:
    """Stop before a probe set is read that would not fit on the file system.

    Args:
        study: for the message.
        what: whose activations, for the message.
        folder: where they go.
        needed: see `activation_bytes`.
        kept: bytes of it that are there already.

    Raises:
        DataError: less space is free.
    """
    total = (sum(stream.bytes for stream in needed.values()) - kept) / 1e6
    free = free_mb(folder)
    if free < total:
        name, largest = max(needed.items(), key=lambda each: each[1].bytes)
        raise DataError(
            f"{folder}: {size(free)} free on its file system, but {what} take {size(total)}; the "
            f"stream {name} alone takes {largest.bytes:.0f} bytes. Free some space, or ask for "
            f"less in config/studies/{study.name}.yaml (activations.streams, activations.sites, "
            f"probes.items, or activations.dtype float16); nothing has been read"
        )
