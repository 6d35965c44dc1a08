"""A model laid out as the hub's own client leaves it in its cache."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def digests(path: Path) -> tuple[str, str]:
    """SHA-256 of a file, and the digest that git names its content by."""
    content = path.read_bytes()
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return hashlib.sha256(content).hexdigest(), git


def as_hub_cache(model: Path, cache: Path, name: str, commit: str) -> Path:
    """Lay a model out in a cache: blobs by digest, links in snapshots, a ref.

    Returns:
        The folder of the snapshot.
    """
    root = cache / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for folder in (root / "blobs", root / "refs", snapshot):
        folder.mkdir(parents=True)
    (root / "refs/main").write_text(commit)
    for path in model.iterdir():
        sha256, git = digests(path)
        large = path.suffix in (".safetensors", ".bin")
        blob = root / "blobs" / (sha256 if large else git)
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot
