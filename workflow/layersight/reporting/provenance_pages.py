"""What the results were made of: weights, machine, times, versions, and what they cannot show."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from layersight.models import registry
from layersight.reporting.pages import Page, page
from layersight.storage.manifest import read_manifest
from layersight.study import PackagedLanguageModel, PackagedVisionEncoder, Study


def language_model_note(study: Study) -> str:
    """What a reader must know about the language model's weights."""
    model = study.backbone.language_model
    if isinstance(model, PackagedLanguageModel):
        return registry.LANGUAGE_MODELS[model.name].note
    return "Random weights, for tests: its numbers mean nothing."


def vision_encoder_note(study: Study) -> str:
    """What a reader must know about the vision encoder's weights."""
    encoder = study.backbone.vision_encoder
    if isinstance(encoder, PackagedVisionEncoder):
        return registry.VISION_ENCODERS[encoder.name].note
    return "Random weights, for tests: its numbers mean nothing."


def models(study: Study) -> Page:
    """The parts of the backbone and the variants."""
    grid = study.backbone.vision_encoder.grid
    rows = [
        ["language model", language_model_note(study)],
        ["blocks L", str(study.backbone.language_model.layers)],
        ["vision encoder", f"{vision_encoder_note(study)} {grid} × {grid} image tokens, frozen."],
        ["connector", study.backbone.connector.kind],
        ["alignment", f"{study.align.steps} steps of {study.align.batch_size}"],
    ]
    for name, variant in study.variants.items():
        start, stop = variant.layers or (0, study.backbone.language_model.layers)
        blocks = f"blocks [{start}, {stop})"
        rows.append(
            [
                f"variant {name}",
                f"{variant.method}, {blocks}, learning rate "
                f"{variant.learning_rate or study.tuning.learning_rate:g}, "
                f"{study.tuning.steps} steps of {study.tuning.batch_size}",
            ]
        )
    return Page("models", "What is measured.", ["part", "what it is"], rows)


def limits(study: Study) -> list[str]:
    """What the study cannot show, in sentences."""
    asked = study.benchmarks
    found = [
        "One backbone: nothing here says that another or a larger language model would behave "
        "alike.",
        (
            "One seed: differences between variants are not told apart from differences between "
            "seeds; all intervals are over items or inputs only."
            if study.seeds == 1
            else f"{study.seeds} seeds: enough to see a range, too few for an interval over seeds. "
            "All variants of a seed start from the same alignment, which was run once."
        ),
        f"Weights: {language_model_note(study)} {vision_encoder_note(study)} Neither is a freshly "
        "pretrained model, and what earlier tuning left in the language model is part of what is "
        "measured.",
        "Pictures are single pictograms on plain ground: no scenes, no relations, no text in "
        "pictures."
        if study.concepts.source == "emoji"
        else "Pictures are drawn shapes, made to test the software: nothing can be learnt from "
        "them about seeing.",
        f"Small evaluations: per split {asked.kind} kind-of-thing items, {asked.presence} "
        f"yes-or-no items for each kind of negative and {asked.naming} naming items; patching "
        f"scores {study.patching.items} items. An effect of a few percent stays invisible.",
        f"Geometry rests on at most {study.probes.items} inputs per probe set in one style "
        f"({study.probes.style}).",
        "Patching shows what blocks carry inside this pair of models; blocks tuned together are "
        "cut apart, so windows need not add up.",
    ]
    return found


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
