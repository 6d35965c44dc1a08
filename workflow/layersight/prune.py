"""Lists results that a study no longer names; removes them only if asked to.

snakemake --summary | python -m layersight.prune results/mini            # list
snakemake --summary | python -m layersight.prune results/mini --delete   # list and remove
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from layersight import artefacts
from layersight.errors import UserError
from layersight.provenance import attempt, failures, lock, records
from layersight.provenance.keep import remove
from layersight.storage.scratch import home_of

ALWAYS = {attempt.DIGESTS, lock.LOCK, failures.FOLDER, ".plan.json", "README.md"}
BESIDE = {artefacts.MANIFEST, ".snakemake_timestamp"}


def named_paths(summary: Iterable[str]) -> set[Path]:
    """Return the outputs and logs that Snakemake's summary names.

    Args:
        summary: lines of `snakemake --summary`.

    Raises:
        UserError: this is no summary; without one everything would look unnamed.
    """
    lines = [line.rstrip("\n").split("\t") for line in summary if "\t" in line]
    if not lines or "output_file" not in lines[0]:
        raise UserError(
            "no summary on standard input: pipe `snakemake --summary` into this command"
        )
    output, log = lines[0].index("output_file"), lines[0].index("log-file(s)")
    named = {Path(line[output]) for line in lines[1:]}
    for line in lines[1:]:
        named |= {Path(path) for path in line[log].split(",") if path}
    if not named:
        raise UserError("the summary names no output: nothing can be told apart")
    return named


def unnamed(root: Path, named: set[Path]) -> list[Path]:
    """Return files and folders below `root` that nothing names, the topmost of each.

    Records, kept copies, unfinished work and timings belong to the output, job or log that they
    stand for.

    Args:
        root: `results/<study>`.
        named: outputs and logs of the study.
    """
    logs = root / artefacts.LOGS
    jobs = {path.relative_to(logs).with_suffix("") for path in named if path.is_relative_to(logs)}
    known = {path for path in named if path.is_relative_to(root)}
    known |= {root / artefacts.TIMINGS / job.with_suffix(".tsv") for job in jobs}
    # Training shows its steps beside its log, and in a folder of that name for TensorBoard.
    known |= {logs / job.with_suffix(".parquet") for job in jobs}
    known |= {logs / job for job in jobs}
    # Large results may lie on another file system, and with them what is kept of them.
    homes = {root, *(home_of(entry, root) for entry in _sorted(root) if entry.is_symlink())}
    known |= {
        home / attempt.KEPT / path.relative_to(root)
        for path in named
        if path.is_relative_to(root)
        for home in homes
    }
    above = {parent for path in known for parent in path.parents}
    found: list[Path] = []
    for entry in _sorted(root):
        if entry.name in ALWAYS or entry.name in (records.FOLDER, attempt.UNFINISHED):
            continue
        _walk(entry, known, above, found)
    for home in sorted(homes - {root}):
        _walk(home / attempt.KEPT, known, above, found)
    found += _old_records(root, named)
    return found


def _walk(path: Path, known: set[Path], above: set[Path], found: list[Path]) -> None:
    if path in known:
        return
    if path in above:
        for entry in _sorted(path):
            _walk(entry, known, above, found)
    elif not (path.name in BESIDE and any(k.parent == path.parent for k in known)):
        found.append(path)


def _old_records(root: Path, named: set[Path]) -> list[Path]:
    """Records none of whose outputs is named."""
    texts = {str(path) for path in named}
    old = []
    for path in sorted((root / records.FOLDER).rglob("*.json")):
        record = records.read_record(path)
        if record is None or texts.isdisjoint(record.outputs):
            old.append(path)
    return old


def _sorted(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def size_of(path: Path) -> int:
    """Return the bytes of a file or folder."""
    if not path.is_dir():
        return path.lstat().st_size
    return sum(
        os.lstat(os.path.join(folder, file)).st_size
        for folder, _, files in os.walk(path)
        for file in files
    )


def main() -> None:
    """Read a summary, and list or remove what it does not name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of the study's results")
    parser.add_argument("--delete", action="store_true", help="remove what is listed")
    asked = parser.parse_args()
    try:
        if not asked.results.is_dir():
            raise UserError(f"{asked.results}: no such folder")
        found = unnamed(asked.results, named_paths(sys.stdin))
    except UserError as error:
        sys.exit(str(error))
    for path in found:
        print(f"{size_of(path) / 1e6:10.1f} MB  {path}")
        if asked.delete:
            remove(path)
    if not found:
        print("Nothing to prune: the study names all of its results.")
    elif asked.delete:
        print(f"Removed {len(found)}.")
    else:
        print(f"{len(found)} to remove. Nothing has been removed: add DELETE=1 (or --delete).")


if __name__ == "__main__":
    main()
