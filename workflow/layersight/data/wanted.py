"""What a study takes from the hub, by the name of the folder that it gets in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from layersight.data.elsewhere import archive_folder, conversations_folder
from layersight.data.hub import CONNECTOR, VARIANT
from layersight.models.backbones import checkpoint_folder
from layersight.models.released import connector_folder
from layersight.questions.sources import archive_of, data_set, questions_folder
from layersight.study import HubConversations, HubQuestions, Study

BACKBONE = ("language_model", "vision_encoder")
QUESTIONS = "questions."


def hub_models(study: Study, cache: Path) -> dict[str, str]:
    """Return the models of the hub that a study reads.

    A whole released model serves a variant as well as the connector that is taken from it.

    Args:
        study: the study.
        cache: folder of the asset cache.

    Returns:
        Name of the folder in `models/` to what of the study it is, as `data.hub.fetch_part` takes
        it.
    """
    found = {}
    connector = study.align.released
    if connector is not None and connector.source == "hub":
        found[connector_folder(study, cache).name] = CONNECTOR
    parts = {f"{VARIANT}{name}": variant.released for name, variant in study.variants.items()}
    parts |= {name: getattr(study.backbone, name) for name in BACKBONE}
    for name, part in parts.items():
        if part is not None and part.source == "hub":
            found[checkpoint_folder(part.model_dump(), cache).name] = name
    return found


def read_by_fetching(part: str) -> list[str]:
    """Return the keys that fetching a model reads: a released one is compared with the backbone.

    Args:
        part: as `hub_models` returns it.
    """
    if part in BACKBONE:
        return [f"backbone.{part}"]
    compared = [f"backbone.{key}" for key in (*BACKBONE, "connector")]
    return [part if part.startswith(VARIANT) else "align", *compared]


class HubData(NamedTuple):
    """Data sets of the hub.

    Attributes:
        stages: the training stages that learn from one.
        conversations: name of the folder in `conversations/` to the stage that reads it first.
        archives: name of the folder in `pictures/` to the stage that reads it first, and the folder
            of its data set that the pictures belong to; of a question set `questions.<name>` and
            nothing.
        questions: name of the folder in `questions/` to the question set that reads it first.
    """

    stages: list[str]
    conversations: dict[str, str]
    archives: dict[str, tuple[str, str]]
    questions: dict[str, str]


def hub_data(study: Study, cache: Path) -> HubData:
    """Return the conversations, questions and archives of pictures that a study fetches.

    Args:
        study: the study.
        cache: folder of the asset cache.
    """
    found = HubData([], {}, {}, {})
    for stage in ("align", "tuning"):
        data = getattr(study, stage).data
        if not isinstance(data, HubConversations):
            continue
        found.stages.append(stage)
        found.conversations.setdefault(conversations_folder(data, cache).name, stage)
        for folder, pictures in data.pictures.items():
            if pictures.path is None:
                name = archive_folder(data, pictures, cache).name
                found.archives.setdefault(name, (stage, folder))
    for name, asked in study.questions.items():
        if isinstance(asked, HubQuestions):
            found.questions.setdefault(questions_folder(asked, cache).name, name)
        archive = archive_of(asked)
        if archive is not None:
            place = archive_folder(data_set(asked), archive, cache).name
            found.archives.setdefault(place, (f"{QUESTIONS}{name}", ""))
    return found


def read_by_fetching_pictures(owner: str) -> list[str]:
    """Return the keys that fetching an archive of pictures reads.

    Args:
        owner: stage or question set, as `HubData.archives` names it.
    """
    return [owner if owner.startswith(QUESTIONS) else f"{owner}.data"]
