"""The study model: what it accepts, what it refuses, and its generated documents."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.conftest import ROOT

from layersight.errors import StudyError
from layersight.reference import PAGE, SCHEMA, page_text, schema_text
from layersight.slices import findings, restore, take
from layersight.study_file import load_study

STUDIES = ROOT / "config/studies"


@pytest.mark.parametrize("name", ["smoke", "mini", "mini-geometry", "small"])
def test_the_studies_of_the_repository_are_valid(name):
    assert load_study(STUDIES / f"{name}.yaml").name == name


def test_schema_and_reference_page_are_up_to_date():
    assert (ROOT / SCHEMA).read_text() == schema_text()
    assert (ROOT / PAGE).read_text() == page_text()


def changed(tmp_path: Path, **changes: object) -> Path:
    data = yaml.safe_load((STUDIES / "smoke.yaml").read_text())
    data.update(changes)
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "three"}, "seeds: Input should be a valid integer, not 'three'"),
        ({"seeds": 2.5}, "seeds"),
        ({"seeds": True}, "seeds"),
        ({"variants": {}}, "variants"),
        ({"variants": {"aligned": {"method": "full"}}}, "this name is taken"),
        ({"variants": {"Full": {"method": "full"}}}, "variants"),
        ({"variants": {"x": {"method": "full", "layers": [2, 2]}}}, "[2, 2) is not inside [0, 4)"),
        ({"name": "other"}, "a study is named as its file"),
        ({"mixture": {"naming": 0.0, "kind": 0.0, "presence": 0.0, "keywords": 0.0,
                      "text_only": 0.0}}, "all shares are zero"),
        ({"probes": {"items": 0, "style": "filled"}}, "probes.items"),
        ({"geometry": {"two_nn_fraction": 1.5}}, "geometry.two_nn_fraction"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_file_and_key(tmp_path, changes, message):
    path = changed(tmp_path, **changes)
    with pytest.raises(StudyError) as error:
        load_study(path)
    assert str(path) in str(error.value) and message in str(error.value)


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "smoke.yaml"
    path.write_text((STUDIES / "smoke.yaml").read_text() + "\nseed: 8\n")
    with pytest.raises(StudyError, match="'seed' is given twice"):
        load_study(path)


def test_exponents_without_a_point_are_numbers(tmp_path):
    path = changed(tmp_path)
    path.write_text(path.read_text().replace("learning_rate: 0.001", "learning_rate: 1e-3"))
    assert load_study(path).align.learning_rate == 1e-3


def test_a_study_can_extend_another_and_drop_a_variant(tmp_path):
    changed(tmp_path)
    child = tmp_path / "child.yaml"
    child.write_text("extends: smoke\nname: child\nseeds: 2\nvariants: {lora-1-3: null}\n")
    study = load_study(child)
    assert study.seeds == 2
    assert list(study.variants) == ["full"]
    child.write_text("extends: child\nname: child\n")
    with pytest.raises(StudyError, match="extends itself"):
        load_study(child)


def test_overrides_are_merged_and_checked(tmp_path):
    path = changed(tmp_path)
    assert load_study(path, {"align": {"steps": 2}}).align.steps == 2
    assert load_study(path, {"align": {"steps": 2}}).align.batch_size == 4
    with pytest.raises(StudyError, match="with the overrides of --config"):
        load_study(path, {"align": {"stps": 2}})


def test_a_slice_gives_what_it_names_and_nothing_else(smoke):
    part = restore(
        take(smoke, "seed", "tuning.steps", "variants.lora-1-3", "backbone.system_prompt")
    )
    assert part.seed == 7 and part.tuning.steps == 6
    assert part.variants["lora-1-3"] == smoke.variants["lora-1-3"]
    assert part.backbone.system_prompt == ""
    for read in (
        lambda: part.align,
        lambda: part.compute,
        lambda: part.tuning.learning_rate,
        lambda: part.backbone.connector,
    ):
        with pytest.raises(AttributeError):
            read()
    assert list(part.variants) == ["lora-1-3"]


def test_a_slice_changes_only_with_what_it_names(tmp_path, smoke):
    other = load_study(changed(tmp_path, seeds=3))
    assert take(smoke, "seed", "align") == take(other, "seed", "align")
    assert take(smoke, "seeds") != take(other, "seeds")


def test_sizes_that_only_predict_are_in_no_slice_of_what_is_computed():
    def sliced(**changes):
        study = load_study(STUDIES / "llava-1.5-7b.yaml", changes)
        return take(study, "align", "tuning.data"), take(study, "tuning.data", estimates=True)

    folders = {"gqa/images": {"megabytes": 7}, "ocr_vqa/images": {"about": "Ask."}}
    data = {"text_tokens": 3, "megabytes": 5, "pictures": folders}
    computed, fetched = sliced()
    other, differing = sliced(align={"data": {"text_tokens": 9}}, tuning={"data": data})
    assert computed == other and fetched != differing
    assert sliced(tuning={"data": {"rows": 1}})[0] != computed
    thesis = load_study(STUDIES / "thesis.yaml")
    own = take(thesis, "questions")["questions"]
    assert own and all("text_tokens" not in asked for asked in own.values())
    assert restore({"questions": own}).questions.keys() == thesis.questions.keys()


def test_findings_are_all_of_a_study_but_where_and_on_what_it_runs(smoke):
    expected = smoke.model_dump(mode="json", exclude={"assets", "compute", "quota"})
    for key in ("memory_mb", "device"):
        del expected["geometry"][key]
    assert take(smoke, *findings()) == expected
