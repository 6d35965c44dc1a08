"""Presets: the published numbers, the study's own values first, steps that follow from epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import ROOT

from layersight.errors import StudyError
from layersight.reference import page_text, schema_text
from layersight.study import Study
from layersight.study_file import load_study
from layersight.tuning.recipes import RECIPES, resolve, steps

STEERING = ["multi-task", "task-specific", "1k", "5k", "10k"]


def study_with(folder: Path, **changes: Any) -> Path:
    data = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
    path = folder / "smoke.yaml"
    path.write_text(yaml.safe_dump(data | changes))
    return path


def loaded(folder: Path, **changes: Any) -> Study:
    return load_study(study_with(folder, **changes))


def refusal(folder: Path, **changes: Any) -> str:
    path = study_with(folder, **changes)
    with pytest.raises(StudyError) as error:
        load_study(path)
    assert str(path) in str(error.value)
    return str(error.value)


def said(model: Any) -> dict[str, Any]:
    """Return what was filled in, without the keys that a preset left to their defaults."""
    return json.loads(model.model_dump_json(exclude_unset=True))


# The numbers of the papers and of their released scripts, written out a second time.
STAGE_2 = {
    "batch_size": 128, "learning_rate": 2e-5, "warmup": 0.03, "weight_decay": 0.0,
    "group_by": "modality_length", "template": "v1", "max_tokens": 2048,
}  # fmt: skip
STEERING_STAGE = {
    "batch_size": 128, "accumulate": 4, "learning_rate": 2e-4, "warmup": 0.03, "weight_decay": 0.0,
    "group_by": "none", "template": "phi",
}  # fmt: skip


def test_stage_1_of_llava_has_its_published_values(tmp_path):
    align = loaded(tmp_path, align={"preset": "llava-1.5-stage-1"}).align
    assert said(align) == {
        "batch_size": 256, "learning_rate": 1e-3, "warmup": 0.03, "weight_decay": 0.0,
        "group_by": "none", "template": "plain", "max_tokens": 2048, "steps": 2181,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        ("llava-1.5-stage-2", STAGE_2),
        (
            "llava-1.5-lora",
            STAGE_2 | {"learning_rate": 2e-4, "connector_learning_rate": 2e-5},
        ),
        ("llava-steering-multi-task", STEERING_STAGE),
    ],
)
def test_recipes_of_one_epoch_over_llavas_instructions(tmp_path, preset, values):
    assert said(loaded(tmp_path, tuning={"preset": preset}).tuning) == values | {"steps": 5198}


def test_the_published_sizes_and_batches_give_the_published_steps():
    """558k / 256 = 2180 and 665k / 128 = 5197 full batches; the rest of the rows is one more."""
    for stage, full_batches, thousands in (
        (RECIPES["llava-1.5-stage-1"].align, 2180, 558),
        (RECIPES["llava-1.5-stage-2"].tuning, 5197, 665),
    ):
        assert stage is not None
        assert stage["rows"] // 1000 == thousands
        assert stage["rows"] // stage["batch_size"] == full_batches
        assert steps(stage["rows"], stage["epochs"], stage["batch_size"]) == full_batches + 1


def test_one_task_is_seen_ten_times_and_its_size_is_the_studys_to_give(tmp_path):
    tuning = {"preset": "llava-steering-task-specific", "rows": 12_726}
    assert said(loaded(tmp_path, tuning=tuning).tuning) == STEERING_STAGE | {"steps": 995}
    told = refusal(tmp_path, tuning={"preset": "llava-steering-task-specific"})
    assert "tuning.rows: required where epochs is given" in told


@pytest.mark.parametrize(("size", "per_epoch"), [("1k", 8), ("5k", 40), ("10k", 79)])
def test_samples_of_a_task_have_their_size_and_the_study_says_how_often(tmp_path, size, per_epoch):
    preset = f"llava-steering-{size}"
    tuning = loaded(tmp_path, tuning={"preset": preset, "epochs": 1}).tuning
    assert said(tuning) == STEERING_STAGE | {"steps": per_epoch}
    assert "tuning.epochs: required" in refusal(tmp_path, tuning={"preset": preset})


def variant(folder: Path, **values: Any) -> dict[str, Any]:
    return said(loaded(folder, variants={"x": values}).variants["x"])


def test_variants_of_llava_have_their_published_values(tmp_path):
    assert variant(tmp_path, preset="llava-1.5-stage-2") == {
        "method": "full", "learning_rate": 2e-5, "options": {},
    }  # fmt: skip
    assert variant(tmp_path, preset="llava-1.5-lora") == {
        "method": "lora",
        "learning_rate": 2e-4,
        "connector_learning_rate": 2e-5,
        "options": {"r": 128, "lora_alpha": 256, "lora_dropout": 0.05},
    }


@pytest.mark.parametrize("name", STEERING)
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("lora", {"r": 128, "lora_alpha": 256}),
        ("adapter", {"bottleneck": 256, "dropout": 0.05, "activation": "tanh"}),
        ("oft", {"r": 16}),
        ("ia3", {}),
        ("full", {}),
    ],
)
def test_methods_that_llava_steering_compares_have_their_published_values(
    tmp_path, name, method, options
):
    rate = 2e-5 if (method, name) == ("full", "multi-task") else 2e-4
    assert variant(tmp_path, preset=f"llava-steering-{name}", method=method) == {
        "method": method, "learning_rate": rate, "train_connector": True, "options": options,
    }  # fmt: skip


@pytest.mark.parametrize("name", STEERING)
def test_mores_is_the_method_of_llava_steering_and_steers_first_and_last_tokens(tmp_path, name):
    found = variant(tmp_path, preset=f"llava-steering-{name}")
    rank = {"rank": 2} if name.endswith("k") and name != "multi-task" else {}
    assert found == {
        "method": "mores",
        "learning_rate": 2e-4,
        "train_connector": True,
        "options": {
            "tokens": "first-last", "first": 4, "last": 5, "bias": True, "variant": "code",
            "dropout": 0.05, **rank,
        },
    }  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_a_valid_study_wherever_it_belongs(tmp_path, name):
    recipe = RECIPES[name]
    given = {"preset": name, "rows": 100, "epochs": 2}
    if recipe.align is not None:
        assert loaded(tmp_path, align=given).align.steps == 1
    if recipe.tuning is not None:
        assert loaded(tmp_path, tuning=given).tuning.steps == 2
    for method in recipe.methods:
        loaded(tmp_path, variants={"x": {"preset": name, "method": method}})
    assert recipe.align is not None or (recipe.tuning is not None and recipe.methods)


def test_the_studys_own_values_win(tmp_path):
    tuning = {"preset": "llava-1.5-lora", "batch_size": 64, "learning_rate": 1e-4, "steps": 7}
    own = loaded(tmp_path, tuning=tuning).tuning
    assert (own.batch_size, own.learning_rate, own.steps) == (64, 1e-4, 7)
    assert (own.connector_learning_rate, own.template) == (2e-5, "v1")
    own_options = variant(tmp_path, preset="llava-1.5-lora", learning_rate=None, options={"r": 8})
    assert own_options["options"] == {"r": 8, "lora_alpha": 256, "lora_dropout": 0.05}
    assert own_options["learning_rate"] is None


def test_steps_follow_from_the_batch_size_that_the_study_takes(tmp_path):
    tuning = {"preset": "llava-1.5-stage-2", "rows": 1000, "batch_size": 10, "epochs": 1.5}
    assert loaded(tmp_path, tuning=tuning).tuning.steps == 150


def test_epochs_and_rows_need_no_preset(tmp_path):
    align = {"epochs": 3, "rows": 10, "batch_size": 4, "learning_rate": 1e-3}
    assert loaded(tmp_path, align=align).align.steps == 8


def test_presets_are_inherited_and_what_is_inherited_wins_over_them(tmp_path):
    study_with(tmp_path, tuning={"preset": "llava-1.5-stage-2", "learning_rate": 1e-4})
    child = tmp_path / "child.yaml"
    child.write_text("extends: smoke\nname: child\ntuning: {preset: llava-1.5-lora}\n")
    tuning = load_study(child).tuning
    assert (tuning.learning_rate, tuning.connector_learning_rate) == (1e-4, 2e-5)
    over = {"tuning": {"preset": "llava-steering-1k", "epochs": 2}}
    assert load_study(child, over).tuning.steps == 16


def test_inherited_steps_give_way_to_epochs_when_set_to_null(tmp_path):
    study_with(tmp_path)
    child = tmp_path / "child.yaml"
    lines = "extends: smoke\nname: child\nalign: {{{}epochs: 2, rows: 20}}\n"
    child.write_text(lines.format(""))
    with pytest.raises(StudyError, match="align: steps is given, and so is epochs"):
        load_study(child)
    child.write_text(lines.format("steps: null, "))
    assert load_study(child).align.steps == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"align": {"preset": "llava-1.5-stage-2"}}, "align.preset: 'llava-1.5-stage-2' is a "
         "recipe for tuning and a variant"),
        ({"tuning": {"preset": "llava-1.5-stage-1"}}, "is a recipe for align"),
        ({"variants": {"x": {"preset": "llava-1.5-stage-1"}}}, "variants.x.preset: "
         "'llava-1.5-stage-1' is a recipe for align"),
        ({"variants": {"x": {"preset": "llava-1.5-lora", "method": "full"}}},
         "variants.x.preset: 'llava-1.5-lora' says nothing of the method 'full', but of lora"),
        ({"tuning": {"preset": 3}}, "tuning.preset: unknown recipe 3; known: "),
        ({"tuning": {"preset": ["x"]}}, "tuning.preset: unknown recipe ['x']; known: "),
        ({"align": {"preset": "llava-1.5-stage-1", "rows": 0}}, "align.rows: must be a number of "
         "conversations, not 0"),
        ({"align": {"preset": "llava-1.5-stage-1", "epochs": "1"}}, "align.epochs: must be a "
         "number above 0, not '1'"),
        ({"align": {"preset": "llava-1.5-stage-1", "epochs": 1e308}}, "too many steps"),
        ({"align": {"preset": "llava-1.5-stage-1", "batch_size": 0}}, "align.batch_size: Input "
         "should be greater than 0, not 0"),
        ({"align": {"epochs": 1, "rows": 8, "learning_rate": 1e-3}}, "align.batch_size: required"),
        ({"align": {"presett": "x", "steps": 1, "batch_size": 1, "learning_rate": 1e-3}},
         "align.presett: unknown key; did you mean 'preset'?"),
        ({"preset": "llava-1.5-stage-1"}, "preset: unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_preset_is_named_by_its_key(tmp_path, changes, message):
    assert message in refusal(tmp_path, **changes)


def test_an_unknown_preset_is_told_with_all_that_are_known(tmp_path):
    told = refusal(tmp_path, align={"preset": "llava-1.5-stage1"})
    assert "align.preset: unknown recipe 'llava-1.5-stage1'; known: " in told
    assert all(name in told for name in RECIPES)
    assert told.endswith("did you mean 'llava-1.5-stage-1'?")


def test_the_schema_for_editors_knows_presets_and_the_reference_page_lists_them():
    definitions = json.loads(schema_text())["$defs"]
    for name in ("Optimisation", "Variant"):
        assert definitions[name]["properties"]["preset"]["enum"] == list(RECIPES)
        assert "required" not in definitions[name]
    assert {"epochs", "rows"} <= set(definitions["Optimisation"]["properties"])
    assert all(f"### {name}\n" in page_text() for name in RECIPES)


def test_a_study_without_presets_is_read_as_it_stands():
    data = yaml.safe_load((ROOT / "config/studies/smoke.yaml").read_text())
    assert resolve(data) == data
