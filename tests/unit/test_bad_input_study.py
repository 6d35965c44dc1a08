"""Mistakes in a study file: one message with the file, the key and what would be right."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import ROOT

from layersight.errors import StudyError
from layersight.study_file import load_study

SMOKE = ROOT / "config/studies/smoke.yaml"


def study_with(folder: Path, key: str, value: Any) -> Path:
    """Write the smoke study with one dotted key set."""
    data = copy.deepcopy(yaml.safe_load(SMOKE.read_text()))
    *parents, last = key.split(".")
    target = data
    for part in parents:
        target = target.setdefault(part, {})
    target[last] = value
    path = folder / "smoke.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(StudyError) as error:
        load_study(path)
    message = str(error.value)
    assert str(path) in message and len(message) < 600
    return message


VARIANT = "variants.lora-1-3"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sed", 7, "sed: unknown key; did you mean 'seed'?"),
        ("concepts.seen_style", ["filled"], "concepts.seen_style: unknown key"),
        ("backbone.vision_encoder.gird", 2, "backbone.vision_encoder.gird: unknown key"),
        ("backbone.language_model.depth", 2, "backbone.language_model.depth: unknown key"),
        (f"{VARIANT}.options", {"rank": 2}, f"{VARIANT}.options.rank: unknown key"),
        ("align.steps", "6", "align.steps: Input should be a valid integer, not '6'"),
        ("align.steps", 0, "align.steps: Input should be greater than 0, not 0"),
        ("align.steps", 10**30, "align.steps: is too large a number"),
        ("align.clip_norm", float("nan"), "align.clip_norm: must be a finite number, not nan"),
        ("quota", {"disk_gb": float("inf")}, "quota.disk_gb: must be a finite number, not inf"),
        ("concepts.seen_styles", "filled", "concepts.seen_styles: Input should be a valid array"),
        ("backbone.language_model", {"source": "web"}, "backbone.language_model: Input tag 'web'"),
        (
            "backbone.language_model",
            {"source": "package", "name": "gpt-5"},
            "backbone.language_model.name: unknown language model 'gpt-5'; known: smollm2",
        ),
        (
            "backbone.vision_encoder",
            {"source": "package", "name": "vit"},
            "backbone.vision_encoder.name: unknown vision encoder 'vit'; known: efficientnet",
        ),
        ("backbone.language_model.heads", 5, "width: 48 cannot be shared by 5 heads"),
        ("backbone.system_prompt", "See <image>.", "backbone.system_prompt: holds <image>"),
        (f"{VARIANT}.method", "magic", f"{VARIANT}.method: unknown method 'magic'; known methods:"),
        (f"{VARIANT}.options", {"r": "2"}, f"{VARIANT}.options.r: Input should be a valid integer"),
        (f"{VARIANT}.layers", [], f"{VARIANT}.layers"),
        (f"{VARIANT}.layers", [2, 2], "[2, 2) is not inside [0, 4), the blocks of the language"),
        (f"{VARIANT}.layers", [3, 1], "[3, 1) is not inside [0, 4)"),
        (f"{VARIANT}.layers", [-1, 2], "[-1, 2) is not inside [0, 4)"),
        (f"{VARIANT}.layers", [2, 5], f"{VARIANT}.layers: [2, 5) is not inside [0, 4)"),
        ("variants.Full", {"method": "full"}, "variants.Full: String should match pattern"),
        ("geometry.metric", "manhattan", "geometry.metric: Input should be 'euclidean' or"),
        ("benchmarks.tasks", ["kind_image", "pope"], "benchmarks.tasks.1: Input should be 'kind_"),
        ("benchmarks.tasks", ["kind_image", "kind_image"], "tasks names kind_image twice"),
        ("probes.sets", ["pair_images"], "probes.sets: pair_texts is missing"),
        ("activations.streams", [], "activations.streams: streams is empty"),
        ("patching.split", "everything", "patching.split: must be seen_style, unseen_style or"),
        ("patching.directions", [], "patching.directions: directions is empty"),
        (
            "patching.sweeps",
            [{"kind": "cumulative", "stride": 2}] * 2,
            "patching.sweeps: the sweep 1 is the same as 0",
        ),
        ("patching.sweeps", [{"kind": "cumulative", "stride": 5}], "wider than the 4 blocks"),
        ("concepts.seen_styles", ["filled", "filled"], "seen_styles names filled twice"),
        ("concepts.unseen_style", "filled", "style 'filled' is both seen and unseen"),
        ("concepts.unseen_subgroups", [], "concepts: unseen_subgroups is empty"),
        ("concepts.kinds.round", ["circle", "ellipse", "circle"], "twice under one: circle"),
        ("concepts.kinds.angular", ["circle"], "subgroups listed under two kinds"),
        ("concepts.kinds.round", ["ellipse"], "kind 'round' has no subgroup left to train on"),
        ("concepts.kinds", {"": ["circle"], "b": ["star"]}, "concepts: kinds names ''"),
        ("concepts.image_size", 4, "concepts.image_size: Input should be greater than or equal"),
        ("geometry.k", 9, "probes.items: 24 items, but geometry.k = 9 neighbours need 27"),
        ("geometry.gride_range_max", 24, "geometry.gride_range_max: neighbour 24"),
        ("geometry.neighbours", 8, "geometry.neighbours: 8 neighbours are stored, but overlaps at"),
        ("geometry.ks", [], "geometry.ks: is empty: name at least one"),
        ("geometry.ks", [5, 1, 5], "geometry.ks: must rise without repeats, not [5, 1, 5]"),
        ("geometry.density", {"k": 2, "sigma": 1.0}, "geometry.density.sigma: unknown key"),
        ("geometry.subsample_fraction", 1.0, "geometry.subsample_fraction: Input should be less"),
        ("linear_probes", {"strengths": [0.0]}, "linear_probes.strengths.0: Input should be gre"),
        ("token_clouds", {"ks": [0]}, "token_clouds.ks.0: Input should be greater than 0"),
        ("benchmarks.naming", 1, "benchmarks.naming: must be at least 2"),
        ("benchmarks.presence", 1, "benchmarks.presence: must be at least 2"),
        ("assets.cache", "", "assets.cache: must be a folder, not ''"),
        ("extends", "../secret", "extends: must be the name of a study of this folder"),
        ("extends", "nothing", "no such study file"),
        ("extends", "n" * 300, "no such study file"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_file_and_key_with_what_would_be_right(tmp_path, key, value, message):
    assert message in refusal(study_with(tmp_path, key, value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2", "line 2: the key 'seed' is given twice"),
        ("variants:\n  a: {method: full}\n  a: {method: lora}", "line 3: the key 'a' is given"),
        ("kinds: {no: [circle]}", "line 1: a key must be text: no is read as False"),
        ("1: one", "line 1: a key must be text: 1 is read as 1; write it in quotes"),
        ("? [a, b]\n: 1", "line 1: a key must be text: write it in quotes"),
        ("seed: [", "not readable as YAML"),
        ("title: 2001-13-45", "not readable as YAML: month must be in 1..12"),
        ("title: 2001-12-13", "title: must be text, a number, a list or a mapping"),
        ("title: !!python/object:os.system x", "not readable as YAML"),
        ("title: !!binary aGk=", "title: must be text"),
        ("seed: &a [*a]", "a value contains itself"),
        ("seed: " + "[" * 3000, "not readable as YAML"),
        ('title: "\\ud800"', "title: holds half of a surrogate pair"),
        ("- seed", "a study file is a mapping"),
        ("", "a study file is a mapping"),
        ("\x00", "not readable as YAML"),
    ],
)
def test_text_that_is_no_study_is_refused_in_one_message(tmp_path, text, message):
    path = tmp_path / "odd.yaml"
    path.write_text(text, encoding="utf-8")
    assert message in refusal(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_bytes(b"seed: \xff\xfe")
    assert "not readable as YAML" in refusal(path)


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory(tmp_path):
    path = tmp_path / "odd.yaml"
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    path.write_text("\n".join(lines))
    assert "is an alias at fault?" in refusal(path)


def test_yaml_merge_keys_still_work(tmp_path):
    path = tmp_path / "smoke.yaml"
    text = SMOKE.read_text().replace("align: {", "align: &stage {")
    path.write_text(text.replace("tuning: {", "tuning: {<<: *stage, "))
    assert load_study(path).tuning.steps == 6


def test_a_missing_parent_is_told_with_the_file_that_asks_for_it(tmp_path):
    path = tmp_path / "child.yaml"
    path.write_text("extends: parent\nname: child\n")
    assert "parent.yaml: no such study file; studies here: child" in refusal(path)


def test_a_mistake_inside_an_override_is_told_as_one(tmp_path):
    path = study_with(tmp_path, "seed", 7)
    with pytest.raises(StudyError, match="--config: .*'steps' is given twice"):
        load_study(path, {"align": ["{steps: 1, steps: 2}"]})
