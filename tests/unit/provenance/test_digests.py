"""Digests follow what files hold, and are remembered only as long as that is safe."""

from __future__ import annotations

import hashlib
import json
import os
import time

import pytest

from layersight.provenance.digests import Digests

OLD = 1_600_000_000


def settle():
    """Wait until a file just written is older than what time stamps can tell apart."""
    time.sleep(0.06)


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "results" / ".digests.json"


@pytest.fixture
def file(tmp_path, memory):
    memory.parent.mkdir()
    file = tmp_path / "a.txt"
    file.write_text("one")
    settle()
    return file


def remembered(memory, file):
    """Digest `file` with a memory, as one run does."""
    digests = Digests(memory)
    found = digests.of(file)
    digests.save()
    return found


def test_the_digest_of_a_file_is_its_sha256(file):
    assert Digests().of(file) == hashlib.sha256(b"one").hexdigest()
    assert Digests().of(str(file)) == Digests().of(file)
    assert Digests().of(file.with_name("missing")) is None


def test_a_file_is_not_read_twice_while_nothing_about_it_changes(file, memory):
    remembered(memory, file)
    known = json.loads(memory.read_text())
    known[str(file)][-1] = "as remembered"
    memory.write_text(json.dumps(known))
    assert remembered(memory, file) == "as remembered"


def test_a_touched_file_is_read_again_and_is_the_same(file, memory):
    before = remembered(memory, file)
    known = json.loads(memory.read_text())
    os.utime(file, (OLD, OLD))
    settle()
    assert remembered(memory, file) == before
    assert json.loads(memory.read_text()) != known


def test_a_change_in_place_is_noticed_even_with_the_old_time_and_size(file, memory):
    before = remembered(memory, file)
    state = os.stat(file)
    with file.open("r+") as opened:
        opened.write("two")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert remembered(memory, file) != before


def test_a_file_that_was_just_written_is_not_remembered(memory, file):
    fresh = file.with_name("fresh.txt")
    fresh.write_text("one")
    digests = Digests(memory)
    # Same size, and on a coarse clock the same time stamps.
    os.utime(fresh, ns=(time.time_ns(), time.time_ns()))
    digests.of(fresh)
    digests.save()
    assert not memory.exists() or str(fresh) not in json.loads(memory.read_text())


def test_the_digest_of_a_folder_is_of_its_files_and_their_names(tmp_path):
    folder = tmp_path / "f"
    (folder / "inside").mkdir(parents=True)
    (folder / "inside" / "a").write_text("one")
    (folder / "b").write_text("two")
    before = Digests().of(folder)
    for name in ("manifest.json", ".snakemake_timestamp", "inside/manifest.json"):
        (folder / name).write_text("when and where")
        assert Digests().of(folder) == before
    copy = tmp_path / "elsewhere"
    folder.rename(copy)
    assert Digests().of(copy) == before
    (copy / "b").rename(copy / "c")
    renamed = Digests().of(copy)
    (copy / "c").write_text("three")
    changed = Digests().of(copy)
    (copy / "d").write_text("")
    assert len({before, renamed, changed, Digests().of(copy)}) == 4


@pytest.mark.parametrize("text", ['{"/a": [1, 2', "", "[]", "null", "\x00\x01", '{"FILE": 3}'])
def test_a_torn_memory_is_none(file, memory, text):
    memory.write_text(text.replace("FILE", str(file)))
    assert remembered(memory, file) == hashlib.sha256(b"one").hexdigest()
    assert json.loads(memory.read_text())[str(file)][-1] == hashlib.sha256(b"one").hexdigest()


def test_a_memory_whose_folder_is_missing_is_not_written(tmp_path):
    file = tmp_path / "a"
    file.write_text("one")
    settle()
    remembered(tmp_path / "none" / ".digests.json", file)
    assert not (tmp_path / "none").exists()
