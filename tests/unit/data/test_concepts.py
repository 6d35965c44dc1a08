import json
from pathlib import Path
from typing import Any

import pytest

from layersight.data.concepts import (
    Concept,
    EmojiPackages,
    emoji_concepts,
    emoji_pictures,
    fair_negative,
    synthetic_concepts,
)
from layersight.errors import DataError, StudyError
from layersight.study import Concepts, Study
from layersight.study_file import load_study

STUDIES = Path(__file__).parents[3] / "config" / "studies"


def study_of(**concepts: Any) -> Study:
    settings = {
        "source": "emoji",
        "kinds": {"animal": ["dogs", "bugs"], "sky": ["weather"]},
        "unseen_subgroups": ["bugs"],
        "seen_styles": ["openmoji", "noto"],
        "unseen_style": "fluent",
    }
    chosen = Concepts.model_validate(settings | concepts)
    return load_study(STUDIES / "smoke.yaml").model_copy(update={"concepts": chosen})


@pytest.fixture
def packages(tmp_path: Path) -> EmojiPackages:
    """Six pictograms; the fox lacks one style, and two are called "Dog"."""
    rows = [
        ("1F1", "Dog", 1, ["dog", "pet", "Pet", "a", "b", "c", "d", "e"]),
        ("1F2", "dog", 1, []),
        ("1F3", "dog face", 1, ["animal", "ant"]),
        ("1F4", "fox", 1, []),
        ("2601", "cloud", 2, []),
        ("1F5", "ant", 3, []),
    ]
    found = EmojiPackages(*(tmp_path / name for name in ("o", "g", "f", "e")))

    def write(path: Path, value: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    # The packages disagree about the variation selector FE0F and about case.
    write(found.openmoji / "data/openmoji.json", [{"hexcode": code} for code, *_ in rows])
    google = [
        {
            "unified": f"{code}-FE0F",
            "image": f"{code.lower()}-fe0f.png",
            "has_img_google": label != "fox",
        }
        for code, label, *_ in rows
    ]
    write(found.google / "emoji.json", google)
    write(
        found.emojibase / "en/data.json",
        [
            {"label": label, "hexcode": code, "tags": tags, "order": order, "subgroup": subgroup}
            for order, (code, label, subgroup, tags) in enumerate(rows)
        ],
    )
    names = {1: "dogs", 2: "weather", 3: "bugs"}
    write(
        found.emojibase / "en/messages.json",
        {"subgroups": [{"order": order, "key": key} for order, key in names.items()]},
    )
    codes = {"1F3": ["dog", "dog_face", "dog2"], "2601": ["ant", "grey_cloud"]}
    for source in ("emojibase", "github", "iamcal", "joypixels"):
        write(found.emojibase / f"en/shortcodes/{source}.json", codes)
    for _, label, *_ in rows:
        write(found.fluent / f"icons/modern/{label.lower().replace(' ', '-')}.svg", "")
    return found


def test_styles_join_by_code_with_and_without_selector(packages: EmojiPackages) -> None:
    concepts = emoji_concepts(study_of(), packages)
    assert [concept.label for concept in concepts] == ["dog", "dog face", "ant", "cloud"]
    assert [concept.unseen for concept in concepts] == [False, False, True, False]
    files = emoji_pictures(study_of(), packages)["dog-face"]
    assert [files[style].name for style in ("openmoji", "noto", "fluent")] == [
        "1F3.svg",
        "1f3-fe0f.png",
        "dog-face.svg",
    ]


def test_tags_are_clean_and_namesakes_keep_the_first(packages: EmojiPackages) -> None:
    dog = emoji_concepts(study_of(), packages)[0]
    assert dog.tags == ("pet", "a", "b", "c", "d")
    assert emoji_pictures(study_of(), packages)["dog"]["openmoji"].name == "1F1.svg"


def test_keywords_never_name_an_unseen_concept(packages: EmojiPackages) -> None:
    tags = {one.label: one.tags for one in emoji_concepts(study_of(), packages)}
    assert tags["dog face"] == ("animal",)


def test_synonyms_drop_codes_and_names_of_other_things(packages: EmojiPackages) -> None:
    synonyms = {one.label: one.synonyms for one in emoji_concepts(study_of(), packages)}
    assert synonyms["dog face"] == ("dog",)
    assert synonyms["cloud"] == ("grey cloud",)


def test_limit_keeps_the_first_of_every_subgroup(packages: EmojiPackages) -> None:
    concepts = emoji_concepts(study_of(limit_per_subgroup=1), packages)
    assert [concept.label for concept in concepts] == ["dog", "ant", "cloud"]


def test_unknown_subgroup_and_style_list_the_known_ones(packages: EmojiPackages) -> None:
    wrong = study_of(kinds={"animal": ["cats", "bugs"], "sky": ["weather"]})
    with pytest.raises(
        StudyError, match=r"the study: concepts.kinds.animal: .*'cats'.* bugs, dogs, weather"
    ):
        emoji_concepts(wrong, packages)
    with pytest.raises(StudyError, match=r"concepts.seen_styles: .*'apple'.*openmoji, noto, flu"):
        emoji_concepts(study_of(seen_styles=["apple"]), packages)
    synthetic = study_of(source="synthetic", seen_styles=["filled"], unseen_style="striped")
    with pytest.raises(StudyError, match=r"concepts.kinds.animal: .*'dogs'.*circle"):
        synthetic_concepts(synthetic)


def test_damaged_table_is_reported(packages: EmojiPackages) -> None:
    (packages.google / "emoji.json").write_text("[{")
    with pytest.raises(DataError, match=r"emoji.json: not readable"):
        emoji_concepts(study_of(), packages)


def test_synthetic_concepts_are_colours_times_shapes() -> None:
    concepts = synthetic_concepts(load_study(STUDIES / "smoke.yaml"))
    assert len(concepts) == len({one.concept for one in concepts}) == 6 * 8
    assert concepts[0] == Concept(
        concept="red-circle",
        label="red circle",
        kind="round",
        subgroup="circle",
        tags=("red", "circle"),
        synonyms=(),
        unseen=False,
    )


def test_negatives_that_may_be_true_are_unfair() -> None:
    def concept(label: str, *tags: str) -> Concept:
        return Concept(label.replace(" ", "-"), label, "animal", "mammal", tags, (), False)

    assert not fair_negative(concept("dog face"), concept("dog"))
    assert not fair_negative(concept("dog"), concept("dog face"))
    assert not fair_negative(concept("poodle", "dog"), concept("dog"))
    assert not fair_negative(concept("dog"), concept("poodle", "dog"))
    assert not fair_negative(concept("dog"), concept("dog"))
    assert fair_negative(concept("guide dog"), concept("service dog"))
    assert fair_negative(concept("red circle"), concept("blue circle"))
