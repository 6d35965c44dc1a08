"""What the report says that the variants are."""

from __future__ import annotations

import json

from layersight.reporting.lineup import Lineup
from layersight.reporting.provenance_pages import models
from layersight.study import Study


def test_what_a_variant_trains_besides_its_method_is_said(smoke: Study):
    data = smoke.model_dump(mode="json")
    data["variants"] = {
        "plain": {"method": "full", "layers": [[0, 1], [2, 4]]},
        "seeing": {"method": "lora", "train_vision": 2, "train_connector": False},
        "small": {"method": "qlora"},
    }
    study = Study.model_validate_json(json.dumps(data))
    rows = {row[0]: row[1] for row in models(study, {}, Lineup.of(study)).rows}
    assert "blocks [0, 1), [2, 4)" in rows["variant plain"]
    assert ";" not in rows["variant plain"]
    assert "the last 2 blocks of the vision encoder learn" in rows["variant seeing"]
    assert "the connector stays still" in rows["variant seeing"]
    assert "its base is quantised" in rows["variant small"]
