"""What the results were made of, and what they cannot show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from layersight import artefacts
from layersight.layers import named
from layersight.models import registry
from layersight.reporting.gaps import mark
from layersight.reporting.lineup import Lineup
from layersight.reporting.pages import Page
from layersight.storage.manifest import read_manifest
from layersight.study import (
    FolderLanguageModel,
    FolderVisionEncoder,
    HubLanguageModel,
    HubVisionEncoder,
    PackagedLanguageModel,
    PackagedVisionEncoder,
    RandomLanguageModel,
    RandomVisionEncoder,
    Study,
    Variant,
)
from layersight.tuning import methods


def language_model_note(study: Study) -> str:
    """What a reader must know about the language model's weights."""
    model = study.backbone.language_model
    if isinstance(model, PackagedLanguageModel):
        return registry.LANGUAGE_MODELS[model.name].note
    if not isinstance(model, RandomLanguageModel):
        return checkpoint_note(model)
    return "Random weights, for tests: its numbers mean nothing."


def vision_encoder_note(study: Study) -> str:
    """What a reader must know about the vision encoder's weights."""
    encoder = study.backbone.vision_encoder
    if isinstance(encoder, PackagedVisionEncoder):
        return registry.VISION_ENCODERS[encoder.name].note
    if not isinstance(encoder, RandomVisionEncoder):
        return f"{checkpoint_note(encoder)} Layer {encoder.select_layer}, {encoder.select_feature}."
    return "Random weights, for tests: its numbers mean nothing."


def checkpoint_note(
    part: HubLanguageModel | FolderLanguageModel | HubVisionEncoder | FolderVisionEncoder,
) -> str:
    """Which checkpoint of a hub or a folder it is."""
    if isinstance(part, HubLanguageModel | HubVisionEncoder):
        return f"{part.id} at the commit {part.revision} ({part.family})."
    return f"The folder {part.path} ({part.family})."


def models(study: Study, manifests: Mapping[str, Path], lineup: Lineup) -> Page:
    """The parts of the backbone and the variants, with what each trains and lacks.

    Args:
        study: the study.
        manifests: artefact to its `manifest.json`; those of models are read.
        lineup: says which subjects have no results.
    """
    tokens = study.backbone.image_tokens
    rows = [
        ["language model", language_model_note(study), "–"],
        ["blocks L", str(study.backbone.language_model.layers), "–"],
        [
            "vision encoder",
            f"{vision_encoder_note(study)} {tokens} image tokens, frozen unless a variant says so.",
            "–",
        ],
        ["connector", study.backbone.connector.kind, "–"],
        [
            "alignment",
            f"the connector of {study.align.released.words}: released, not trained here"
            if study.align.released
            else f"{study.align.steps} steps of {study.align.batch_size}",
            trained_parameters(["aligned"], manifests),
        ],
    ]
    for name, variant in study.variants.items():
        if variant.released is not None:
            rows.append([f"variant {name}", *_released(name, variant, manifests)])
            continue
        blocks = named(study.blocks(name) or range(study.backbone.language_model.layers))
        seeds = [f"{name}/seed-{seed}" for seed in range(study.seeds)]
        left = [subject for subject in seeds if subject not in lineup.failed]
        what = (
            f"{variant.method}, {blocks}, learning rate "
            f"{variant.learning_rate or study.tuning.learning_rate:g}, "
            f"{study.tuning.steps} steps of {study.tuning.batch_size}{_besides(variant)}"
        )
        gap = mark(lineup, name)
        rows.append(
            [
                f"variant {name}",
                f"{what}. {gap}" if gap else what,
                trained_parameters(left, manifests),
            ]
        )
    return Page("models", "What is measured.", ["part", "what it is", "trained parameters"], rows)


def _released(name: str, variant: Variant, manifests: Mapping[str, Path]) -> list[str]:
    """Say what a variant is that others have trained, and how much of it differs."""
    what = f"{variant.released.words if variant.released else ''}: released, not trained here"
    if not variant.reads_pictures:
        what += "; its language model alone, on text"
    path = manifests.get(artefacts.SUBJECT_MODEL.format(subject=f"{name}/seed-0"))
    record = {} if path is None else read_manifest(path)
    rows = record.get("vocabulary") or {}
    if rows and rows["released"] != rows["base"]:
        what += (
            f"; of its {rows['released']:,} rows of embeddings {rows['taken']:,} are taken, the "
            f"base has {rows['base']:,}"
        )
    if record.get("trainable_vision"):
        what += "; its vision encoder is not the study’s"
    counted = f"none here; {record['differing']:,} of the language model differ" if record else "–"
    return [what, counted]


def _besides(variant: Variant) -> str:
    """Say what a variant trains, leaves or changes besides its method's own parameters."""
    said = ""
    if hasattr(methods.method(variant.method), "quantization"):
        said += "; its base is quantised, so it differs from `base` by that as well"
    if variant.train_connector is False:
        said += "; the connector stays still"
    if variant.train_vision == "all":
        said += "; the vision encoder learns"
    elif variant.train_vision != "none":
        said += f"; the last {variant.train_vision} blocks of the vision encoder learn"
    return said


def trained_parameters(subjects: Sequence[str], manifests: Mapping[str, Path]) -> str:
    """Say how many parameters the subjects, repetitions of one variant, each trained.

    A dash if none of them has a manifest. Nothing that was measured is read.
    """
    for subject in subjects:
        path = manifests.get(artefacts.SUBJECT_MODEL.format(subject=subject))
        if path is None:
            continue
        record = read_manifest(path)
        parts = [
            f"{record[key]:,} in the {part}"
            for key, part in (
                ("trainable_language_model", "language model"),
                ("trainable_connector", "connector"),
                ("trainable_vision", "vision encoder"),
            )
            if record.get(key)
        ]
        return ", ".join(parts) or "–"
    return "–"


def limits(study: Study) -> list[str]:
    """What the study cannot show, in sentences."""
    asked = study.benchmarks
    sizes = [f"{asked.kind} kind-of-thing items"] if asked.tasks else []
    if "presence" in asked.tasks:
        sizes.append(f"{asked.presence} yes-or-no items for each kind of negative")
    if "naming" in asked.tasks:
        sizes.append(f"{asked.naming} naming items")
    sizes += [f"{own.items} questions of {name}" for name, own in study.questions.items()]
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
        f"Weights: {language_model_note(study)} {vision_encoder_note(study)} "
        + (
            "Neither is a freshly pretrained model, and what"
            if isinstance(study.backbone.language_model, PackagedLanguageModel)
            else "What"
        )
        + " earlier tuning left in the language model is part of what is measured.",
        _pictures(study),
        f"Small evaluations: per split {' and '.join(sizes)}; patching scores "
        f"{study.patching.items} items. An effect of a few percent stays invisible.",
        f"Geometry rests on at most {study.probes.items} inputs per probe set "
        + (
            f"in one style ({study.probes.style})."
            if study.probes.from_ is None
            else f"of one set of questions ({study.probes.from_})."
        ),
        "Patching shows what blocks carry inside this pair of models; blocks tuned together are "
        "cut apart, so windows need not add up.",
    ]
    if study.questions:
        found.append(
            "Questions from elsewhere may have been in what the language model or the released "
            "models were trained on; their majority answer is the commonest of the very items "
            "that are asked."
        )
    released = [name for name, variant in study.variants.items() if variant.released is not None]
    if released:
        found.append(
            f"Released, not trained here: {', '.join(released)}. What was tuned, on which data and "
            "from which start follows from others’ reports alone, and each exists once."
        )
    return found


def _pictures(study: Study) -> str:
    """Say what the pictures are not."""
    if not study.shows_concepts:
        return (
            "Pictures, captions and answers are those of the question sets: what is wrong in them "
            "counts as a mistake of the models."
        )
    if study.concepts.source == "emoji":
        return (
            "Pictures are single pictograms on plain ground: no scenes, no relations, no text in "
            "pictures."
        )
    return (
        "Pictures are drawn shapes, made to test the software: nothing can be learnt from them "
        "about seeing."
    )
