"""The page of a run: on what machines it ran, how long it took, and with what versions.

Everything that two runs of one study may differ in stands here, so that the report does not.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from layersight.reporting.pages import Page, page
from layersight.reporting.render import render
from layersight.storage.atomic import atomic_file
from layersight.storage.manifest import read_manifest
from layersight.study import Study

RUN_PAGE = "run.html"


def build_run_page(
    study: Study, *, manifests: Mapping[str, Path], timings: Mapping[str, Path], out: Path
) -> None:
    """Write the page of a run, which stands beside the report as `run.html`.

    Args:
        study: the study; only its name is read.
        manifests: artefact to its `manifest.json`.
        timings: step to its Snakemake benchmark file.
        out: the HTML file.
    """
    html = render(
        "run.html.j2",
        study=study,
        machine_page=machines(manifests),
        timing_page=times(timings),
        manifest_page=steps(manifests),
        version_page=versions(manifests),
    )
    with atomic_file(out) as beside:
        beside.write_text(html, encoding="utf-8")


def machines(manifests: Mapping[str, Path]) -> Page:
    """On what the expensive steps ran; several rows if they ran on several machines."""
    seen: dict[tuple[str, ...], int] = {}
    for path in manifests.values():
        record = read_manifest(path)
        machine = record.get("machine", {})
        key = (
            str(machine.get("system", "–")),
            str(machine.get("processor", "–")),
            str(machine.get("cores", "–")),
            str(record.get("device", "–")),
        )
        seen[key] = seen.get(key, 0) + 1
    rows = [[*key, str(count)] for key, count in seen.items()]
    return Page(
        "machines", "Machines of the steps that keep a manifest.",
        ["system", "processor", "cores", "device", "steps"], rows,
    )  # fmt: skip


def steps(manifests: Mapping[str, Path]) -> Page:
    """Wall time, memory and trained parameters of the steps that keep a manifest."""
    rows = []
    for name, path in manifests.items():
        record = read_manifest(path)
        rows.append(
            {
                "step": name,
                "seconds": float(record.get("seconds", float("nan"))),
                "peak memory (MB)": float(record.get("peak_memory_mb", float("nan"))),
                "trained, language model": record.get("trainable_language_model"),
                "trained, connector": record.get("trainable_connector"),
            }
        )
    frame = pd.DataFrame(rows).astype(object) if rows else pd.DataFrame()
    return page("steps", "Steps that keep a manifest; trained is a number of parameters.", frame)


def times(timings: Mapping[str, Path]) -> Page:
    """Wall time and memory of every step that Snakemake timed, its repetitions added up."""
    rows: list[list[str]] = []
    total = 0.0
    for name, path in timings.items():
        with Path(path).open(encoding="utf-8", newline="") as file:
            records = list(csv.DictReader(file, delimiter="\t"))
        seconds = sum(_number(record.get("s")) for record in records)
        memory = max((_number(record.get("max_rss")) for record in records), default=0.0)
        total += seconds
        rows.append([name, f"{seconds:.1f}", f"{memory:.0f}" if memory else "–"])
    if rows:
        rows.append(["all, one after another", f"{total:.1f}", "–"])
    return Page("times", "Wall time of the steps.", ["step", "seconds", "peak memory (MiB)"], rows)


def _number(text: str | None) -> float:
    # Snakemake writes "-" or "NA" for what it could not measure.
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def versions(manifests: Mapping[str, Path]) -> Page:
    """Versions that the manifests name; more than one where steps differ."""
    found: dict[str, set[str]] = {}
    for path in manifests.values():
        for package, version in read_manifest(path).get("versions", {}).items():
            found.setdefault(package, set()).add(str(version))
    rows = [[package, ", ".join(sorted(found[package]))] for package in sorted(found)]
    return Page("versions", "Versions of what results depend on.", ["package", "version"], rows)
