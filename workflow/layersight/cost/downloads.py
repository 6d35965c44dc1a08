"""What a run has to download, how much it is, and who has to do what for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layersight.cost import light
from layersight.cost.estimate import Cost
from layersight.data.elsewhere import archive_folder, conversations_folder, missing_folders
from layersight.data.packages import PACKAGES
from layersight.models import published
from layersight.models.backbones import gated_message, hub_folder
from layersight.questions import sources
from layersight.storage.space import size
from layersight.study import FileConversations, HubConversations, HubQuestions, Study
from layersight.study_released import Released

STAGES = ("align", "tuning")


@dataclass(frozen=True)
class Download:
    """One thing that is fetched, or that somebody has to put somewhere.

    Attributes:
        what: its name, with revision or version.
        megabytes: its size; None: not known.
        by_hand: what a person has to do for it; empty: nothing.
    """

    what: str
    megabytes: float | None
    by_hand: str = ""


def downloads(
    study: Study, fetched: Iterable[tuple[str, Mapping[str, str], Cost]]
) -> list[Download]:
    """Return what the jobs of a run fetch, and what people have to see to.

    Args:
        study: the study.
        fetched: rule, wildcards and prediction of every job of the stage `assets`.
    """
    found = [_download(study, rule, dict(wildcards), cost) for rule, wildcards, cost in fetched]
    return [*(item for item in found if item is not None), *_to_put(study)]


def missing(study: Study) -> list[str]:
    """Return a message for every folder of pictures of conversations that only a person can fill,
    and that is not there."""
    return [
        f"{stage}.{message}"
        for stage in STAGES
        if (data := getattr(study, stage).data) is not None
        for message in missing_folders(data).values()
    ]


def missing_questions(study: Study) -> list[str]:
    """Return a message for every file and folder of questions that only a person can put."""
    return [found.message for found in sources.missing(study)]


def render(items: Iterable[Download]) -> str:
    """Return the list for the terminal; empty if there is nothing to download."""
    given = list(items)
    if not given:
        return ""
    known = sum(item.megabytes or 0.0 for item in given if not item.by_hand.startswith("missing"))
    least = "at least " if any(item.megabytes is None for item in given) else ""
    lines = [f"To be downloaded, {least}{size(known)} by the machine that this command runs on:"]
    for item in given:
        amount = "size unknown" if item.megabytes is None else size(item.megabytes)
        lines.append(f"  {item.what}: {amount}" + (f"; {item.by_hand}" if item.by_hand else ""))
    return "\n".join(lines)


def archive_of(study: Study, name: str) -> tuple[HubConversations, str] | None:
    """Return the conversations and the folder that an unpacked archive, by its name, belongs to."""
    for data in _of_the_hub(study):
        for folder, pictures in data.pictures.items():
            if pictures.path is None and archive_folder(data, pictures, Path()).name == name:
                return data, folder
    return None


def conversations_of(study: Study, name: str) -> HubConversations | None:
    """Return the conversations that lie in a folder of the cache, by its name."""
    for data in _of_the_hub(study):
        if conversations_folder(data, Path()).name == name:
            return data
    return None


def _of_the_hub(study: Study) -> list[HubConversations]:
    found = [getattr(study, stage).data for stage in STAGES]
    return [data for data in found if isinstance(data, HubConversations)]


def _download(study: Study, rule: str, wildcards: Mapping[str, str], cost: Cost) -> Download | None:
    if rule == "fetch_package":
        keys = {f"{key}-{package.version}": key for key, package in PACKAGES.items()}
        package = PACKAGES[keys[wildcards["package"]]]
        return Download(f"{package.name} {package.version}, {package.what}", package.download_mb)
    if rule == "fetch_model":
        return _model(study, wildcards["model"])
    if rule == "fetch_pictures":
        found = archive_of(study, wildcards["archive"])
        if found is not None:
            data, folder = found
            pictures = data.pictures[folder]
            where = "" if pictures.address else f" of {data.id} at {data.revision[:12]}"
            return Download(f"{pictures.archive}{where}", pictures.megabytes)
        return _of_questions(study, wildcards["archive"])
    if rule == "fetch_questions":
        for asked in study.questions.values():
            if isinstance(asked, HubQuestions) and (
                sources.questions_folder(asked, Path()).name == wildcards["questions"]
            ):
                what = f"{', '.join(asked.files)} of {asked.id} at {asked.revision[:12]}"
                return Download(f"{what}, {asked.rows:,} questions", asked.megabytes)
    if rule == "fetch_conversations":
        data_set = conversations_of(study, wildcards["conversations"])
        if data_set is not None:
            what = f"{data_set.file} of {data_set.id} at {data_set.revision[:12]}"
            return Download(f"{what}, {data_set.rows:,} conversations", data_set.megabytes)
    if rule.startswith("fetch_"):
        return Download(" ".join([rule, *wildcards.values()]), cost.disk_mb)
    return None


def _of_questions(study: Study, archive: str) -> Download | None:
    """Return an archive of a question set's pictures, by the name of its folder in the cache."""
    for asked in study.questions.values():
        found, data = sources.archive_of(asked), sources.data_set(asked)
        if found is not None and archive_folder(data, found, Path()).name == archive:
            where = "" if found.address else f" of {data.id} at {data.revision[:12]}"
            return Download(f"{found.archive}{where}", found.megabytes)
    return None


def _model(study: Study, name: str) -> Download:
    backbone = study.backbone
    tables: dict[str, Mapping[str, Any]] = {
        "language_model": published.LANGUAGE_MODELS,
        "vision_encoder": published.VISION_ENCODERS,
    }
    cost = light.fetch_model(study, name)
    for key, table in tables.items():
        part = getattr(backbone, key)
        if part.source == "hub" and hub_folder(part.id, part.revision, Path()).name == name:
            known = table.get(part.id)
            gated = known is not None and known.gated
            by_hand = gated_message(f"backbone.{key}", part.id) if gated else ""
            return Download(f"{part.id} at {part.revision[:12]}", cost.disk_mb, by_hand)
    for released in _released(study):
        if released.source == "hub" and name.startswith(
            hub_folder(str(released.id), str(released.revision), Path()).name
        ):
            return Download(f"{released.id} at {str(released.revision)[:12]}", cost.disk_mb)
    return Download(name, cost.disk_mb)


def _released(study: Study) -> list[Released]:
    """Return the checkpoints that a study takes as they are: of variants, and of the connector."""
    found: list[Released | None] = [variant.released for variant in study.variants.values()]
    return [item for item in [*found, study.align.released] if item is not None]


def _to_put(study: Study) -> list[Download]:
    found = []
    for stage in STAGES:
        data = getattr(study, stage).data
        if data is None or isinstance(data, FileConversations):
            continue
        for folder, message in missing_folders(data).items():
            said = f"missing: {stage}.{message}"
            found.append(Download(folder, data.pictures[folder].megabytes, said))
    found += [
        Download(each.what, each.megabytes, f"missing: {each.message}")
        for each in sources.missing(study)
    ]
    return found
