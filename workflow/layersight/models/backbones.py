"""Language models and vision encoders from a hub or a folder: what a study file leaves to them.

Read when a study file is loaded, so that every mistake shows before any job. Only small files of
checkpoints are read, and nothing is fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from layersight.models import published
from layersight.models.checkpoints import has_chat_template, language_shape, vision_shape

CACHE_VARIABLE = "LAYERSIGHT_CACHE"
DEFAULT_CACHE = "~/.cache/layersight"
_REVISION = re.compile(r"[0-9a-f]{40}")
_SHORT = 12


def cache_of(data: Mapping[str, Any]) -> Path:
    """Return the folder that fetched assets share, absolute, from a study's plain data.

    The environment variable `LAYERSIGHT_CACHE` overrides the study's `assets.cache`.
    """
    assets = data.get("assets")
    named = assets.get("cache") if isinstance(assets, Mapping) else None
    chosen = os.environ.get(CACHE_VARIABLE) or (named if isinstance(named, str) else DEFAULT_CACHE)
    return Path(chosen).expanduser().absolute()


def hub_folder(name: str, revision: str, cache: Path) -> Path:
    """Return where a model of the hub lies, or will lie, once it is fetched."""
    return cache / "models" / f"{name.replace('/', '--')}-{revision[:_SHORT]}"


def checkpoint_folder(part: Mapping[str, Any], cache: Path) -> Path:
    """Return the folder of a language model or vision encoder with source `hub` or `folder`."""
    if part["source"] == "hub":
        return hub_folder(part["id"], part["revision"], cache)
    return Path(part["path"]).expanduser()


def resolve(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's plain data with family and sizes of its checkpoints filled in.

    They come from the checkpoint's own small files if it is on disk, else from the table of
    published models. What has another form than a study's is left to the check of the study.

    Raises:
        ValueError: no revision, no such folder, a checkpoint of another architecture than the
            study names or than is known here, sizes that are not the checkpoint's or are not known
            at all, or no chat template although conversations take it.
    """
    backbone = data.get("backbone")
    if not isinstance(backbone, Mapping):
        return dict(data)
    cache = cache_of(data)
    filled = dict(backbone)
    for key in ("language_model", "vision_encoder"):
        part = backbone.get(key)
        if isinstance(part, Mapping) and part.get("source") in ("hub", "folder"):
            filled[key] = _part(f"backbone.{key}", part, cache)
    result = {**data, "backbone": filled}
    _check_chat(result, cache)
    return result


def _part(key: str, part: Mapping[str, Any], cache: Path) -> dict[str, Any]:
    if not _is_named(key, part):
        return dict(part)
    folder = checkpoint_folder(part, cache)
    of_words = key.endswith("language_model")
    known = (published.LANGUAGE_MODELS if of_words else published.VISION_ENCODERS).get(
        str(part.get("id"))
    )
    if folder.is_dir():
        try:
            family, shape = (language_shape if of_words else vision_shape)(folder)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    elif part["source"] == "folder":
        raise ValueError(f"{key}.path: {folder}: no such folder")
    elif known is not None:
        family, shape = known.family, known.shape
    else:
        for name in ("family", "shape"):
            if part.get(name) is None:
                raise ValueError(
                    f"{key}.{name}: required for {part['id']}, which is not fetched yet and none "
                    f"of the models whose sizes are known; copy it from the model's config.json"
                )
        return dict(part)
    where = folder if folder.is_dir() else part["id"]
    return dict(part) | {
        "family": _same(f"{key}.family", part.get("family"), family, where),
        "shape": _shape(f"{key}.shape", part.get("shape"), shape, where),
    }


def _is_named(key: str, part: Mapping[str, Any]) -> bool:
    """Return whether a part says which checkpoint it is; its form is the study's check."""
    if part["source"] == "folder":
        return isinstance(part.get("path"), str) and bool(part["path"])
    name, revision = part.get("id"), part.get("revision")
    if not isinstance(name, str):
        return False
    if revision is None:
        raise ValueError(
            f"{key}.revision: required: the commit of {name}, 40 hexadecimal digits as its history "
            f"on the hub shows them; without one, what is fetched could change from day to day"
        )
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
        raise ValueError(
            f"{key}.revision: must be a commit of {name}, 40 hexadecimal digits, not {revision!r}: "
            f"branches and tags can move"
        )
    return True


def _same(key: str, given: Any, found: Any, where: Path | str) -> Any:
    if given is not None and given != found:
        raise ValueError(f"{key}: is {given!r}, but {where} is of the family {found!r}")
    return found


def _shape(key: str, given: Any, found: dict[str, Any], where: Path | str) -> Any:
    if not isinstance(given, Mapping):
        return found if given is None else given
    for name, value in found.items():
        if given.get(name, value) != value and name not in ("size", "mean", "deviation"):
            raise ValueError(f"{key}.{name}: is {given[name]!r}, but {where} has {value!r}")
    return found | dict(given)


def _check_chat(data: Mapping[str, Any], cache: Path) -> None:
    """Refuse a tokenizer without the chat template that the study's conversations take."""
    backbone = data["backbone"]
    model = backbone.get("language_model")
    if not isinstance(model, Mapping) or model.get("source") not in ("hub", "folder"):
        return
    usual = backbone.get("template", "chat")
    used = {"backbone.template": usual}
    for stage in ("align", "tuning"):
        own = data.get(stage)
        template = own.get("template") if isinstance(own, Mapping) else None
        used[f"{stage}.template"] = usual if template is None else template
    wanting = [key for key, template in used.items() if template == "chat"]
    if not wanting or not _is_named("backbone.language_model", model):
        return
    folder = checkpoint_folder(model, cache)
    known = published.LANGUAGE_MODELS.get(str(model.get("id")))
    unknown = known is None or known.chat
    if not (has_chat_template(folder) if folder.is_dir() else unknown):
        raise ValueError(
            f"{wanting[0]}: chat takes the chat template of the tokenizer, but "
            f"{model.get('id') or folder} has none; take v1 or phi, or an instruction-tuned model"
        )


def check_fetched(key: str, part: Mapping[str, Any], cache: Path) -> None:
    """Compare what has been fetched with what the study says of it.

    Args:
        key: `language_model` or `vision_encoder`.
        part: of the resolved study, with source `hub`.
        cache: folder shared between studies.

    Raises:
        ValueError: another architecture or other sizes than the study has; nothing is there.
    """
    if not checkpoint_folder(part, cache).is_dir():
        raise ValueError(f"{checkpoint_folder(part, cache)}: no such folder")
    _part(f"backbone.{key}", part, cache)


def gated_without_token(data: Mapping[str, Any]) -> str | None:
    """Return the message for a model that its authors must let a user have; None if all is well.

    Args:
        data: a resolved study's plain data.
    """
    from huggingface_hub import get_token

    cache = cache_of(data)
    for key, table in (
        ("language_model", published.LANGUAGE_MODELS),
        ("vision_encoder", published.VISION_ENCODERS),
    ):
        part = data["backbone"][key]
        if part["source"] != "hub" or checkpoint_folder(part, cache).is_dir():
            continue
        known: Any = table.get(part["id"])
        if known is not None and known.gated and get_token() is None:
            return gated_message(f"backbone.{key}", part["id"])
    return None


def gated_message(key: str, name: str, kind: str = "model") -> str:
    """Return what to do about a gated model, or a gated data set."""
    page = f"datasets/{name}" if kind == "dataset" else name
    return (
        f"{key}: {name} is gated: ask for access on https://huggingface.co/{page}, then give a "
        f"token of that account (`hf auth login`, or the environment variable HF_TOKEN)"
    )
