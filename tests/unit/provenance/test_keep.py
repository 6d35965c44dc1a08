"""Kept outputs share their bytes, come back as they were, and are dropped when damaged."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from layersight.provenance.digests import Digests
from layersight.provenance.keep import Keep

NAME = "out/table.parquet"


@pytest.fixture
def kept(tmp_path) -> Keep:
    return Keep(tmp_path / ".kept", copy=False, only_latest=True)


@pytest.fixture
def shared(tmp_path) -> Keep:
    return Keep(tmp_path / "shared", copy=True, only_latest=False)


def make_file(out: Path, text: str = "numbers") -> str:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    return str(Digests().of(out))


def make_folder(out: Path, text: str = "weights") -> str:
    (out / "layer=00").mkdir(parents=True)
    (out / "layer=00" / "part").write_text(text)
    (out / "manifest.json").write_text("when")
    return str(Digests().of(out))


def same_bytes(one: Path, other: Path) -> bool:
    return os.path.samefile(one, other)


def no_links(source, target, **more):
    raise OSError(errno.EXDEV, "another file system", str(source))


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if ".part-" in path.name or ".old-" in path.name]


def test_a_file_comes_back_with_its_manifest_and_takes_no_more_space(tmp_path, kept):
    out = tmp_path / NAME
    digest = make_file(out)
    side = out.with_name("manifest.json")
    side.write_text("when")
    kept.put(NAME, "k", out, digest)
    content = tmp_path / ".kept" / NAME / "k" / "content"
    assert same_bytes(content, out)
    out.unlink()
    side.unlink()
    assert kept.find(NAME, "k", out)
    assert same_bytes(content, out)
    assert (out.read_text(), side.read_text()) == ("numbers", "when")
    assert left_over(tmp_path) == []


def test_a_folder_comes_back_with_all_its_files(tmp_path, kept):
    out = tmp_path / "out"
    kept.put("out", "k", out, make_folder(out))
    before = os.stat(out / "layer=00" / "part").st_ino
    for existing in (False, True):
        if existing:
            (out / "more").write_text("of another run")
        else:
            (out / "layer=00" / "part").unlink()
        assert kept.find("out", "k", out)
        assert os.stat(out / "layer=00" / "part").st_ino == before
        assert sorted(path.name for path in out.rglob("*")) == ["layer=00", "manifest.json", "part"]
    assert left_over(tmp_path) == []


def test_what_lies_in_the_place_of_an_output_is_replaced(tmp_path, kept):
    file, folder = tmp_path / "file", tmp_path / "folder"
    kept.put("file", "k", file, make_file(file))
    kept.put("folder", "k", folder, make_folder(folder))
    file.write_text("another")
    # Written in place: the kept copy shares the bytes, and is no longer what it was.
    assert not kept.find("file", "k", file)
    file.unlink()
    kept.put("file", "k", file, make_file(file))
    file.unlink()
    make_folder(file)
    assert kept.find("file", "k", file)
    assert file.read_text() == "numbers"
    for path in (folder / "layer=00" / "part", folder / "manifest.json"):
        path.unlink()
    (folder / "layer=00").rmdir()
    folder.rmdir()
    for number, place in enumerate(
        (lambda: folder.write_text("x"), lambda: folder.symlink_to(file))
    ):
        place()
        assert kept.find("folder", "k", folder)
        assert not folder.is_symlink()
        assert (folder / "layer=00" / "part").read_text() == "weights"
        folder.rename(tmp_path / f"aside-{number}")
    assert left_over(tmp_path) == []


def test_another_key_is_not_found(tmp_path, kept):
    out = tmp_path / NAME
    kept.put(NAME, "k", out, make_file(out))
    assert not kept.find(NAME, "other", out)
    assert not kept.find("other", "k", out)
    assert out.read_text() == "numbers"


@pytest.mark.parametrize("damage", ["content", "digest", "missing"])
def test_a_damaged_entry_is_dropped_and_the_output_left_alone(tmp_path, kept, damage):
    out = tmp_path / NAME
    kept.put(NAME, "k", out, make_file(out))
    out.unlink()
    out.write_text("mine")
    entry = tmp_path / ".kept" / NAME / "k"
    if damage == "missing":
        (entry / "content").unlink()
    else:
        (entry / damage).write_text("damaged")
    assert not kept.find(NAME, "k", out)
    assert not entry.exists()
    assert out.read_text() == "mine"


def test_only_the_latest_state_is_kept_where_that_is_wanted(tmp_path, kept, shared):
    out = tmp_path / NAME
    for text in ("first", "second"):
        out.unlink(missing_ok=True)
        digest = make_file(out, text)
        for keep in (kept, shared):
            keep.put(NAME, f"key of {text}", out, digest)
    assert [path.name for path in (tmp_path / ".kept" / NAME).iterdir()] == ["key of second"]
    assert len(list((tmp_path / "shared" / NAME).iterdir())) == 2
    assert shared.find(NAME, "key of first", out)
    assert out.read_text() == "first"


def test_what_a_killed_process_left_in_the_place_of_an_entry_goes(tmp_path, kept):
    out = tmp_path / NAME
    digest = make_file(out)
    place = tmp_path / ".kept" / NAME
    for name in (".k.part-99999", ".old.old-99999", "older"):
        (place / name).mkdir(parents=True)
    kept.put(NAME, "k", out, digest)
    assert [path.name for path in place.iterdir()] == ["k"]
    (place / "older").mkdir()
    kept.put(NAME, "k", out, digest)
    assert [path.name for path in place.iterdir()] == ["k"]


def test_another_result_of_the_same_key_takes_the_place_of_the_first(tmp_path, kept):
    out = tmp_path / NAME
    for text in ("first", "second"):
        out.unlink(missing_ok=True)
        kept.put(NAME, "k", out, make_file(out, text))
    out.unlink()
    assert kept.find(NAME, "k", out)
    assert out.read_text() == "second"


def test_on_another_file_system_the_shared_store_copies_and_the_study_keeps_nothing(
    tmp_path, kept, shared, monkeypatch
):
    monkeypatch.setattr(os, "link", no_links)
    file, folder = tmp_path / NAME, tmp_path / "folder"
    for keep in (kept, shared):
        keep.put(NAME, "k", file, make_file(file))
        if not folder.exists():
            make_folder(folder)
        keep.put("folder", "k", folder, str(Digests().of(folder)))
    assert not kept.find(NAME, "k", file)
    assert not kept.find("folder", "k", folder)
    file.unlink()
    (folder / "layer=00" / "part").write_text("changed in place")
    assert shared.find(NAME, "k", file)
    assert shared.find("folder", "k", folder)
    assert (file.read_text(), (folder / "layer=00" / "part").read_text()) == ("numbers", "weights")
    assert not same_bytes(file, tmp_path / "shared" / NAME / "k" / "content")
    assert left_over(tmp_path) == []


def test_a_full_disk_keeps_nothing_and_stops_nobody(tmp_path, shared, monkeypatch):
    out = tmp_path / NAME
    digest = make_file(out)

    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr("shutil.copy2", full)
    shared.put(NAME, "k", out, digest)
    assert not shared.find(NAME, "k", out)
    assert left_over(tmp_path) == []
