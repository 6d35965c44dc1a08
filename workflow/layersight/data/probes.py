"""Probe sets: the same things as pictures and as names, asked about and on their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layersight.data.concepts import Concept
from layersight.data.conversations import (
    conversation,
    kind_options,
    kind_question,
    kind_question_on_name,
    with_image,
)
from layersight.data.images import image_id
from layersight.seeds import derive_seed
from layersight.study import PROBES, Study


def probe_rows(study: Study, concepts: Sequence[Concept]) -> dict[str, list[dict[str, Any]]]:
    """Return the four probe sets; row i is the same concept in all of them.

    - `visual_questions`: the picture and a kind question.
    - `text_questions`: the name and the same question, with the same options in the same order.
    - `pair_images`: the picture alone.
    - `pair_texts`: the name alone.

    The concepts are the first `probes.items` of a seeded shuffle over all of them, seen and unseen.
    """
    generator = np.random.default_rng(derive_seed(study.seed, "data/probes"))
    order = generator.permutation(len(concepts))[: study.probes.items]
    kinds = list(study.concepts.kinds)
    sets: dict[str, list[dict[str, Any]]] = {name: [] for name in PROBES}
    for index in order:
        concept = concepts[index]
        options = kind_options(concept.kind, kinds, study.benchmarks.choices, generator)
        asked = {
            "visual_questions": with_image(kind_question(options, study)),
            "text_questions": kind_question_on_name(concept.label, options, study),
            "pair_images": with_image(""),
            "pair_texts": concept.label,
        }
        picture = image_id(concept.concept, str(study.probes.style))
        for name, rows in sets.items():
            shows = name in ("visual_questions", "pair_images")
            rows.append(
                {
                    "item_id": concept.concept,
                    "concept": concept.concept,
                    "kind": concept.kind,
                    "subgroup": concept.subgroup,
                    "image_id": picture if shows else None,
                    "conversations": conversation(asked[name]),
                }
            )
    return sets
