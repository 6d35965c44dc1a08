"""Conversations of a data set of the hub with their pictures, from a local cache of the hub."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from PIL import Image

from layersight.data.elsewhere import (
    archive_folder,
    conversations_file,
    fetch_conversations,
    fetch_pictures,
    missing_folders,
    pictures_folder,
)
from layersight.data.llava_json import PictureFolder, import_llava
from layersight.errors import AssetError, DataError
from layersight.study import HubConversations

NAME, COMMIT = "someone/talks", "89abcdef0123456789abcdef0123456789abcdef"
ROWS = [
    {
        "id": name,
        "image": f"coco/train2017/{name}.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is this?"},
            {"from": "gpt", "value": name},
        ],
    }
    for name in ("bus", "cat", "dog")
]


def archive_of_pictures(path: Path, folder: str = "train2017") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for row in ROWS:
            Image.new("RGB", (12, 10), (200, 10, 10)).save(path.with_suffix(".jpg"))
            file.write(path.with_suffix(".jpg"), f"{folder}/{row['id']}.jpg")
        file.writestr("other/readme.txt", "not a picture")
    path.with_suffix(".jpg").unlink()
    return path


def as_hub_cache(files: dict[str, bytes], cache: Path) -> Path:
    """Lay a data set out as the hub's client does: blobs by digest, and links in snapshots."""
    root = cache / f"datasets--{NAME.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True)
    (root / "refs/main").write_text(COMMIT)
    for name, content in files.items():
        blob = root / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


@pytest.fixture
def archive(tmp_path) -> Path:
    return archive_of_pictures(tmp_path / "images.zip")


@pytest.fixture
def snapshot(tmp_path, archive, monkeypatch) -> Path:
    """The user's own cache of the hub with the data set in it, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    files = {"talks.json": json.dumps(ROWS).encode(), "images.zip": archive.read_bytes()}
    return as_hub_cache(files, tmp_path / "hf")


def talks(pictures: dict[str, Any] | None = None, **changes: Any) -> HubConversations:
    pictures = pictures or {"coco/train2017": {"archive": "images.zip", "inside": "train2017"}}
    given = {"source": "hub", "id": NAME, "revision": COMMIT, "file": "talks.json", "rows": 3}
    return HubConversations.model_validate(given | {"pictures": pictures} | changes)


def test_conversations_and_archive_become_a_table_without_any_network(snapshot, tmp_path):
    data, cache = talks(), tmp_path / "cache"
    marker = fetch_pictures(data, "coco/train2017", cache)
    fetch_conversations(data, cache)
    record = json.loads(marker.read_text())
    assert record["files"] == 3  # the rest of the archive is left in it
    assert record["sha256"] == hashlib.sha256((snapshot / "images.zip").read_bytes()).hexdigest()
    out = tmp_path / "table.parquet"
    source, pictures = conversations_file(data, cache), pictures_folder(data, cache)
    assert import_llava(source, pictures, out, published=data.rows) == 3
    assert PictureFolder(pictures).open("coco/train2017/cat.jpg").size == (12, 10)


def test_what_is_fetched_is_not_fetched_again(snapshot, tmp_path):
    data, cache = talks(), tmp_path / "cache"
    markers = [fetch_pictures(data, "coco/train2017", cache), fetch_conversations(data, cache)]
    before = [marker.stat().st_mtime_ns for marker in markers]
    (snapshot / "images.zip").resolve().unlink()
    (snapshot / "talks.json").resolve().unlink()
    fetch_pictures(data, "coco/train2017", cache)
    fetch_conversations(data, cache)
    assert [marker.stat().st_mtime_ns for marker in markers] == before


def test_without_network_the_missing_asset_is_named(snapshot, tmp_path):
    data = talks({".": {"archive": "more.zip"}})
    with pytest.raises(AssetError, match=r"someone/talks: .*hf download someone/talks --repo-type"):
        fetch_pictures(data, ".", tmp_path / "cache")


@pytest.mark.parametrize("name", ["images.zip", "talks.json"])
def test_a_file_that_is_not_what_the_hub_gave_is_refused(snapshot, tmp_path, name):
    blob = (snapshot / name).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AssetError, match=f"{name} of someone/talks is damaged"):
        if name == "images.zip":
            fetch_pictures(talks(), "coco/train2017", tmp_path / "cache")
        else:
            fetch_conversations(talks(), tmp_path / "cache")


def test_an_archive_with_another_digest_than_published_is_refused(snapshot, tmp_path):
    data = talks({".": {"archive": "images.zip", "sha256": "0" * 64}})
    with pytest.raises(AssetError, match="SHA-256 is not the one of the study"):
        fetch_pictures(data, ".", tmp_path / "cache")
    assert not (archive_folder(data, data.pictures["."], tmp_path / "cache") / "content").exists()


@pytest.mark.parametrize("member", ["../outside.jpg", "/outside.jpg", "a/../../outside.jpg"])
def test_an_archive_never_writes_outside_its_folder(snapshot, tmp_path, member):
    blob = (snapshot / "images.zip").resolve()
    with zipfile.ZipFile(blob, "a") as file:
        file.writestr(member, "x")
    renamed = blob.with_name(hashlib.sha256(blob.read_bytes()).hexdigest())
    blob.rename(renamed)
    (snapshot / "images.zip").unlink()
    (snapshot / "images.zip").symlink_to(renamed)
    with pytest.raises(AssetError, match="would be written outside its folder; refused"):
        fetch_pictures(talks(), "coco/train2017", tmp_path / "cache")
    assert not list(tmp_path.rglob("outside.jpg"))


def test_an_archive_without_the_folder_that_the_study_names_is_refused(snapshot, tmp_path):
    data = talks({"coco/val2017": {"archive": "images.zip", "inside": "val2017"}})
    with pytest.raises(AssetError, match="has no val2017/"):
        fetch_pictures(data, "coco/val2017", tmp_path / "cache")


def test_pictures_that_only_people_can_get_are_asked_for_by_name(snapshot, tmp_path):
    folder = tmp_path / "mine"
    data = talks({"ocr_vqa/images": {"path": str(folder), "about": "see its README"}})
    (message,) = missing_folders(data).values()
    assert message.startswith(f"data.pictures.ocr_vqa/images.path: {folder}: no such folder; put")
    assert "(see its README)" in message
    with pytest.raises(AssetError, match=r"no such folder; put the pictures there"):
        fetch_conversations(data, tmp_path / "cache")
    folder.mkdir()
    assert missing_folders(data) == {}
    fetch_conversations(data, tmp_path / "cache")
    links = pictures_folder(data, tmp_path / "cache")
    assert (links / "ocr_vqa/images").resolve() == folder.resolve()


def test_a_folder_that_is_there_takes_the_place_of_an_archive(snapshot, tmp_path):
    (tmp_path / "site").mkdir()
    data = talks({".": {"archive": "https://example.org/a.zip", "path": str(tmp_path / "site")}})
    fetch_conversations(data, tmp_path / "cache")
    assert pictures_folder(data, tmp_path / "cache").resolve() == (tmp_path / "site").resolve()


def test_another_number_of_conversations_than_published_is_refused(snapshot, tmp_path):
    data, cache = talks(rows=4), tmp_path / "cache"
    fetch_pictures(data, "coco/train2017", cache)
    fetch_conversations(data, cache)
    source, pictures = conversations_file(data, cache), pictures_folder(data, cache)
    with pytest.raises(DataError, match="has 3 conversations, but 4 were published"):
        import_llava(source, pictures, tmp_path / "out.parquet", published=data.rows)
    assert not (tmp_path / "out.parquet").exists()
