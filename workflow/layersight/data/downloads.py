"""Archives at an address: downloaded in pieces that a later call goes on from, then checked."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path

from layersight.errors import AssetError
from layersight.progress import Progress
from layersight.storage.manifest import file_digest

_CHUNK = 1 << 20
_TRIES, _WAIT_S, _TIMEOUT_S = 4, 2.0, 60.0
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def download(
    address: str, target: Path, *, sha256: str | None = None, wait: float = _WAIT_S
) -> str:
    """Download a file, and compare its digest with the published one.

    What an earlier call left in `<target>.part` is kept, where the server can go on from there.

    Args:
        address: begins with `http://` or `https://`.
        target: the file; replaced only by a whole one.
        sha256: its digest as published; None: only its length is known, from the server.
        wait: seconds before the first new try; doubles from try to try.

    Returns:
        SHA-256 of the file.

    Raises:
        AssetError: no network, nothing at this address, or another file than published.
        OSError: from the file system.
    """
    part = target.with_name(f"{target.name}.part")
    for attempt in range(_TRIES):
        try:
            _fetch(address, part)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == _TRIES - 1:
                raise _unfetched(address, f"HTTP {error.code} {error.reason}") from None
        except _BROKEN as error:
            if attempt == _TRIES - 1:
                raise _unfetched(address, str(getattr(error, "reason", error))) from None
        time.sleep(wait * 2**attempt)
    digest = file_digest(part)
    if sha256 is not None and digest != sha256:
        part.unlink()
        raise AssetError(
            f"{address}: its SHA-256 is {digest}, but {sha256} is published; the file was damaged "
            f"or replaced on the way, and nothing was unpacked"
        )
    part.replace(target)
    return digest


def _fetch(address: str, part: Path) -> None:
    """Fetch what of a file is not there yet.

    Raises:
        ConnectionError: the connection ended before the file did.
    """
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address)  # noqa: S310 (the study's check lets http(s) pass)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        # Nothing lies behind what is there, or the file has become shorter: begin anew.
        if error.code == 416 and have:
            part.unlink()
            _fetch(address, part)
            return
        raise
    with answer:
        # A server that does not know ranges sends the whole file.
        resumed = answer.status == 206
        length = answer.headers.get("Content-Length")
        total = None if length is None else int(length) + (have if resumed else 0)
        with (
            part.open("ab" if resumed else "wb") as file,
            Progress((total or 0) // _CHUNK + 1, f"{address}: MiB") as progress,
        ):
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                progress.advance(1)
            written = file.tell()
    if total is not None and written != total:
        raise ConnectionError(f"ended after {written} of {total} bytes")


def _unfetched(address: str, why: str) -> AssetError:
    return AssetError(
        f"{address}: could not be fetched ({why}). Check the network and its proxy (HTTPS_PROXY), "
        f"then rerun: what has come so far is kept. Or fetch and unpack it on another machine, "
        f"and name the folder in the study as `path` beside `archive`"
    )
