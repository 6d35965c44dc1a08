"""What studies take from the hub, and under which names it lies in the cache."""

from __future__ import annotations

from pathlib import Path

from layersight.data.hub import CONNECTOR
from layersight.data.wanted import hub_data, hub_models, read_by_fetching
from layersight.study_file import load_study

CACHE = Path("cache")
STUDIES = Path("config/studies")


def test_a_study_of_packages_takes_nothing_from_the_hub():
    study = load_study(STUDIES / "mini.yaml")
    assert hub_models(study, CACHE) == {}
    assert hub_data(study, CACHE) == ([], {}, {}, {})


def test_a_study_at_paper_scale_takes_both_models_and_the_data_of_both_stages():
    study = load_study(STUDIES / "llava-1.5-7b.yaml")
    llm = study.backbone.language_model
    models = hub_models(study, CACHE)
    assert set(models.values()) == {"language_model", "vision_encoder"}
    assert models[f"lmsys--vicuna-7b-v1.5-{llm.revision[:12]}"] == "language_model"
    data = hub_data(study, CACHE)
    assert data.stages == ["align", "tuning"]
    assert sorted(data.conversations.values()) == ["align", "tuning"]
    for stage, folder in data.archives.values():
        assert folder in getattr(study, stage).data.pictures
    wanted = [p for s in data.stages for p in getattr(study, s).data.pictures.values()]
    assert len(data.archives) == sum(pictures.path is None for pictures in wanted)


def test_a_connector_that_lies_in_a_released_model_is_fetched_with_the_model():
    study = load_study(STUDIES / "thesis.yaml")
    parts = set(hub_models(study, CACHE).values())
    released = {f"variants.{name}" for name, own in study.variants.items() if own.released}
    assert released <= parts
    assert (CONNECTOR in parts) == (
        study.align.released.id not in {own.released.id for own in study.variants.values()}
    )


def test_a_released_model_is_compared_with_all_of_the_backbone_and_a_part_with_itself():
    assert read_by_fetching("vision_encoder") == ["backbone.vision_encoder"]
    assert read_by_fetching("variants.kept") == [
        "variants.kept", "backbone.language_model", "backbone.vision_encoder",
        "backbone.connector",
    ]  # fmt: skip
    assert read_by_fetching(CONNECTOR)[0] == "align"
