"""Models of the Hugging Face hub: fetched at one commit, checked, and laid out as a plain folder.

Weights are safetensors in the end. Where a model has a pickle only, its tensors alone are read
(`torch.load(weights_only=True)`, which refuses anything else) and written as safetensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from layersight.data.packages import only_one
from layersight.errors import AssetError
from layersight.models.backbones import CACHE_VARIABLE, check_fetched, gated_message
from layersight.models.released import check_connector, check_variant
from layersight.storage.atomic import atomic_folder
from layersight.storage.manifest import file_digest
from layersight.study import Study

PROVENANCE = "layersight-model.json"
KEPT = ".kept"
"""Folder beside the models: links to their files, so that a step that runs again for another
reason, such as newer code, downloads nothing."""
_SMALL = ["*.json", "*.model", "*.txt", "*.jinja", "LICENSE*", "USE_POLICY*", "Notice*", "NOTICE*"]
_SAFE = ["model*.safetensors"]
_PICKLES = ["pytorch_model*.bin"]
_PROJECTOR = "mm_projector.bin"
_CHUNK = 1 << 20
CONNECTOR = "align.released"
VARIANT = "variants."


def fetch_model(
    name: str, revision: str, folder: Path, *, tokenizer: bool = True, connector: bool = False
) -> Path:
    """Fetch a model of the hub at one commit, unless it is there already.

    What the user's own cache of the hub has (HF_HOME) is taken from there; it costs no network, and
    no disk where both are on one file system. Every file is compared with the digest that the hub
    gave for it; the folder appears whole or not at all.

    Args:
        name: `organisation/model`.
        revision: the commit, 40 hexadecimal digits.
        folder: where to put it; its parent is shared between studies.
        tokenizer: whether it is a language model, which needs a tokenizer.
        connector: whether the connector alone is wanted: of a model that has LLaVA's
            `mm_projector.bin`, no other weights are fetched.

    Returns:
        The folder: config.json, `*.safetensors`, the tokenizer's or the image processor's files,
        and `layersight-model.json` with where each file came from, and the SHA-256 of what was
        fetched and of what is stored.

    Raises:
        AssetError: no network, no such model or commit, a gated model without access, a damaged
            file, no weights, or a pickle that holds more than tensors.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_one(folder):
            if not _is_fetched(folder, revision) and not _restored(folder, revision):
                _fetch_into(name, revision, folder, tokenizer, connector)
                _keep(folder)
    except OSError as error:
        raise AssetError(
            f"{folder}: cannot be written ({error}); free some space, or set assets.cache in the "
            f"study or {CACHE_VARIABLE} to a folder that you may write to"
        ) from None
    return folder


def fetch_part(study: Study, part: str, folder: Path) -> None:
    """Fetch what a study takes from the hub and compare it with what the study says.

    Args:
        study: the study.
        part: `language_model` or `vision_encoder` of its backbone, `align.released`, or
            `variants.<name>` of a released model.
        folder: where to put it, `models/<name>-<commit>` in the cache.

    Raises:
        AssetError: as `fetch_model`, or it is another architecture than the study says.
    """
    settings = _settings(study, part)
    connector = part == CONNECTOR
    fetch_model(
        settings.id,
        settings.revision,
        folder,
        tokenizer=part != "vision_encoder" and not connector,
        connector=connector,
    )
    try:
        if connector:
            check_connector(study, folder)
        elif part.startswith(VARIANT):
            check_variant(study, part.removeprefix(VARIANT), folder)
        else:
            check_fetched(part, settings.model_dump(), folder.parent.parent)
    except ValueError as error:
        raise AssetError(str(error)) from None


def _settings(study: Study, part: str) -> Any:
    if part == CONNECTOR:
        return study.align.released
    if part.startswith(VARIANT):
        return study.variants[part.removeprefix(VARIANT)].released
    return getattr(study.backbone, part)


def _is_fetched(folder: Path, revision: str) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        return bool(record.get("revision") == revision)
    return False


def _keep(folder: Path) -> None:
    """Link a model's files from the folder of what is kept; they take no disk a second time."""
    kept = folder.parent / KEPT / folder.name
    # A file system without links keeps nothing.
    with suppress(OSError):
        kept.parent.mkdir(exist_ok=True)
        shutil.rmtree(kept, ignore_errors=True)
        with atomic_folder(kept) as beside:
            for path in folder.iterdir():
                os.link(path, beside / path.name)


def _restored(folder: Path, revision: str) -> bool:
    """Link a model from what is kept, if it is there and whole."""
    kept = folder.parent / KEPT / folder.name
    if not _is_fetched(kept, revision):
        return False
    stored = json.loads((kept / PROVENANCE).read_text(encoding="utf-8"))["stored"]
    if any(
        not (kept / file).is_file() or file_digest(kept / file) != digest
        for file, digest in stored.items()
    ):
        return False
    with atomic_folder(folder) as beside:
        for path in kept.iterdir():
            take(path, beside / path.name)
    return True


def _fetch_into(name: str, revision: str, folder: Path, tokenizer: bool, connector: bool) -> None:
    own = folder.parent / ".hub"
    snapshot = _in_user_cache(name, revision, connector) or _download(
        name, revision, own, connector
    )
    files = {path.name: path for path in sorted(snapshot.iterdir()) if path.is_file()}
    digests = {file: checked(path, name) for file, path in files.items()}
    weights, pickled = _weights(files, connector)
    if not weights:
        raise AssetError(f"{name}: has no weights at {revision}, neither safetensors nor a pickle")
    with atomic_folder(folder) as beside:
        for file, path in files.items():
            if file in weights or not file.endswith((".safetensors", ".bin", ".bin.index.json")):
                take(path, beside / file)
        if pickled:
            from layersight.models.pickled import convert_pickles

            convert_pickles([files[file] for file in weights], beside)
            for file in weights:
                (beside / file).unlink()
        if tokenizer and not (beside / "tokenizer.json").is_file():
            _fast_tokenizer(name, beside)
        record = {
            "id": name,
            "revision": revision,
            "files": {file: {"sha256": digest} for file, digest in digests.items()},
            "stored": {
                path.name: digests[path.name]
                if path.name in digests and not pickled
                else file_digest(path)
                for path in sorted(beside.iterdir())
            },
            "converted_from_pickle": pickled,
        }
        text = json.dumps(record, indent=2) + "\n"
        (beside / PROVENANCE).write_text(text, encoding="utf-8")
    # What was downloaded has moved; a part of it that was not asked for again stays away.
    shutil.rmtree(own / f"models--{name.replace('/', '--')}", ignore_errors=True)


def _in_user_cache(name: str, revision: str, connector: bool) -> Path | None:
    """Return a whole snapshot in the user's own cache of the hub, if there is one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        found = Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=[*_SMALL, *_SAFE, *([_PROJECTOR] if connector else [])],
                ignore_patterns=["*/*"],
                local_files_only=True,
            )
        )
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None
    files = {path.name: path for path in found.iterdir() if path.is_file()}
    return found if "config.json" in files and _weights(files, connector)[0] else None


def _download(name: str, revision: str, cache: Path, connector: bool) -> Path:
    """Let the hub's own client download a snapshot; it goes on where an earlier call ended."""
    if connector:
        found = snapshot(name, revision, cache, [*_SMALL, _PROJECTOR], ignore=["*/*"])
        if (found / _PROJECTOR).is_file():
            return found
    found = snapshot(name, revision, cache, [*_SMALL, *_SAFE], ignore=["*/*"])
    if not any(found.glob("*.safetensors")):
        found = snapshot(name, revision, cache, [*_SMALL, *_PICKLES], ignore=["*/*"])
    return found


def snapshot(
    name: str,
    revision: str,
    cache: Path,
    patterns: list[str],
    *,
    ignore: list[str] | None = None,
    kind: Literal["model", "dataset"] = "model",
) -> Path:
    """Download files of the hub at one commit, with its own client, into a cache of its own form.

    Args:
        name: `organisation/name`.
        revision: the commit.
        cache: folder of the cache.
        patterns: of the files that are wanted.
        ignore: of those that are not.
        kind: what is fetched.

    Returns:
        The snapshot, a folder of links.

    Raises:
        AssetError: no network, nothing of this name or commit, or gated without access.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    word, option = {"model": ("model", ""), "dataset": ("data set", " --repo-type dataset")}[kind]
    try:
        return Path(
            snapshot_download(
                name,
                repo_type=kind,
                revision=revision,
                cache_dir=cache,
                allow_patterns=patterns,
                ignore_patterns=ignore,
            )
        )
    except GatedRepoError:
        raise AssetError(gated_message("the hub", name, kind)) from None
    except RevisionNotFoundError:
        raise AssetError(f"{name}: has no commit {revision}; copy it from its history") from None
    except RepositoryNotFoundError:
        raise AssetError(
            f"{name}: there is no such {word} on the hub, or it is private and no token of its "
            f"owner is set (HF_TOKEN)"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, ConnectionError) as error:
        raise AssetError(
            f"{name}: could not be fetched from the hub ({_first_line(error)}). Check the network "
            f"and HF_HUB_OFFLINE, then rerun. Where there is no network, fetch it on another "
            f"machine (`hf download {name}{option} --revision {revision}`) and copy its cache "
            f"(HF_HOME) here."
        ) from None


def _first_line(error: Exception) -> str:
    cause = error.__cause__ or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__


def _weights(files: dict[str, Path], connector: bool) -> tuple[list[str], bool]:
    """Return the names of a model's weights, none if some are missing, and if they are pickles."""
    if connector and _PROJECTOR in files:
        return [_PROJECTOR], True
    for single, index, pickled in (
        ("model.safetensors", "model.safetensors.index.json", False),
        ("pytorch_model.bin", "pytorch_model.bin.index.json", True),
    ):
        if single in files:
            return [single], pickled
        if index in files:
            try:
                shards: dict[str, Any] = json.loads(files[index].read_text(encoding="utf-8"))
                names = sorted(set(shards["weight_map"].values()))
            except (OSError, ValueError, KeyError, AttributeError):
                return [], pickled
            if all(name in files for name in names):
                return names, pickled
    return [], False


def checked(path: Path, name: str) -> str:
    """Return a file's SHA-256 after comparing it with the digest that its cached copy is named by.

    The hub's client names large files by their SHA-256 and small ones by git's digest.
    """
    real = path.resolve()
    digest = file_digest(real)
    stated = real.name
    if real == path.absolute() or not set(stated) <= set("0123456789abcdef"):
        return digest
    expected = {64: digest, 40: None if len(stated) != 40 else _git_digest(real)}
    if stated != expected.get(len(stated), stated):
        raise AssetError(
            f"{real}: {path.name} of {name} is damaged: its digest is not the one that the hub "
            f"gave; delete the file and fetch it again"
        )
    return digest


def _git_digest(path: Path) -> str:
    """Return the digest that git names a file's content by."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def take(source: Path, target: Path) -> None:
    """Put a file into the new folder without copying it, where the file system can do so."""
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)


def _fast_tokenizer(name: str, folder: Path) -> None:
    """Write tokenizer.json for a tokenizer that has only SentencePiece's own file (Vicuna's)."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    except (ImportError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise AssetError(
            f"{name}: its tokenizer could not be converted to a fast one ({_first_line(error)}); "
            f"this needs the packages sentencepiece and protobuf: pip install sentencepiece "
            f"protobuf"
        ) from None
