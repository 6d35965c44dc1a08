"""The data stage of the smoke study, as a whole."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from layersight.data import dataset
from layersight.data.conversations import (
    check_no_leak,
    instruct_rows,
    kind_options,
    largest_remainder,
)
from layersight.data.schemas import IMAGES
from layersight.errors import DataError, StudyError
from layersight.storage.tables import read_table
from layersight.study import BENCHMARKS, PROBES, Mixture, Optimisation, Study
from layersight.study_file import load_study

STUDIES = Path(__file__).parents[3] / "config" / "studies"


def larger_study() -> Study:
    """Return the smoke study with enough rows to count."""
    study = load_study(STUDIES / "smoke.yaml")
    steps = Optimisation(steps=53, batch_size=4, learning_rate=1e-3)
    counts = study.benchmarks.model_copy(update={"kind": 40, "presence": 40, "naming": 16})
    update = {"align": steps, "tuning": steps, "benchmarks": counts}
    return study.model_copy(update=update)


def make(study: Study, folder: Path) -> None:
    concepts, instruct = folder / "concepts.parquet", folder / "instruct.parquet"
    dataset.make_concepts(study, folder / "cache", concepts)
    dataset.make_images(study, concepts, folder / "cache", folder / "images.parquet")
    dataset.make_align(study, concepts, folder / "align.parquet")
    dataset.make_instruct(study, concepts, instruct)
    dataset.make_probes(study, concepts, {n: folder / f"probe-{n}.parquet" for n in PROBES})
    outs = {name: folder / f"{name}.parquet" for name in BENCHMARKS}
    dataset.make_benchmarks(study, concepts, instruct, outs)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*.parquet"))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def asked(frame: pd.DataFrame) -> pd.Series:
    return frame["conversations"].map(lambda turns: turns[0]["value"])


def asked_label(question: str) -> str:
    text = question.removeprefix("<image>\nIs there ").removesuffix(
        " in this picture? Answer yes or no."
    )
    return text.split(" ", 1)[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Every table of the larger study as a pandas frame, read without our code."""
    folder = tmp_path_factory.mktemp("data")
    study = larger_study()
    make(study, folder)
    frames = {file.stem: pd.read_parquet(file) for file in folder.glob("*.parquet")}
    return SimpleNamespace(study=study, folder=folder, **frames)


def test_training_shows_neither_unseen_concepts_nor_the_unseen_style(
    made: SimpleNamespace,
) -> None:
    concepts = made.concepts.set_index("concept")
    unseen = set(made.study.concepts.unseen_subgroups)
    unseen_labels = set(made.concepts.loc[made.concepts["unseen"], "label"])
    for frame in (made.align, made.instruct):
        subgroups = set(concepts.loc[frame["concept"], "subgroup"])
        assert not subgroups & unseen
        styles = set(frame["image_id"].dropna().str.split("/").str[1])
        assert styles == set(made.study.concepts.seen_styles)
        text = " | ".join(turn["value"] for turns in frame["conversations"] for turn in turns)
        assert not [label for label in unseen_labels if label in text]


def test_leak_is_refused() -> None:
    study = larger_study()
    concepts = dataset.synthetic_concepts(study)
    row = {"item_id": "x", "concept": "red-circle", "image_id": "red-circle/filled"}
    check_no_leak(study, concepts, [row])
    with pytest.raises(DataError, match="unseen picture"):
        check_no_leak(study, concepts, [row | {"image_id": "red-circle/striped"}])
    with pytest.raises(DataError, match="unseen concept"):
        check_no_leak(study, concepts, [row | {"concept": "red-ellipse"}])


def test_alignment_is_whole_epochs_cut_to_the_steps(made: SimpleNamespace) -> None:
    epoch = 3 * 8 * 2  # seen shapes, colours, seen styles
    assert len(made.align) == 53 * 4
    for start in range(0, 4 * epoch, epoch):
        assert made.align["image_id"][start : start + epoch].nunique() == epoch
    first, second = (made.align["image_id"][s : s + epoch].tolist() for s in (0, epoch))
    assert first != second


def test_mixture_has_exact_quotas(made: SimpleNamespace) -> None:
    counts = made.instruct["task"].value_counts().to_dict()
    expected = {"naming": 43, "kind": 43, "presence": 42, "keywords": 42, "text_only": 42}
    assert counts == expected
    presence = made.instruct[made.instruct["task"] == "presence"]
    assert presence["answer_class"].value_counts().to_dict() == {"yes": 21, "no": 21}
    assert made.instruct["image_id"].isna().sum() == 42
    assert (made.instruct["image_id"].isna() == (made.instruct["task"] == "text_only")).all()
    # Shuffled: no task sits in one block.
    assert made.instruct["task"][:20].nunique() >= 3


def test_answers_of_presence_are_true(made: SimpleNamespace) -> None:
    labels = made.concepts.set_index("concept")["label"]
    for frame in (made.instruct[made.instruct["task"] == "presence"], made.presence):
        answers = frame["answer_class"] if "answer_class" in frame else frame["answer"]
        shown = asked(frame).map(asked_label).to_numpy() == labels[frame["concept"]].to_numpy()
        assert (shown == (answers == "yes").to_numpy()).all()


def test_largest_remainder_is_exact() -> None:
    assert largest_remainder(10, {"a": 1.0, "b": 1.0, "c": 1.0}) == {"a": 4, "b": 3, "c": 3}
    assert largest_remainder(7, {"a": 0.0, "b": 2.0, "c": 1.0}) == {"a": 0, "b": 5, "c": 2}
    with pytest.raises(ValueError, match="zero"):
        largest_remainder(1, {"a": 0.0})


def test_kind_options_hold_the_right_one_anywhere() -> None:
    generator = np.random.default_rng(0)
    drawn = [kind_options("b", ["a", "b", "c", "d"], 3, generator) for _ in range(200)]
    assert all(len(set(options)) == 3 and "b" in options for options in drawn)
    assert {options.index("b") for options in drawn} == {0, 1, 2}
    assert {other for options in drawn for other in options} == {"a", "b", "c", "d"}


def test_mixture_without_keywords_needs_none() -> None:
    study = larger_study()
    bare = [type(one)(**vars(one) | {"tags": ()}) for one in dataset.synthetic_concepts(study)]
    with pytest.raises(StudyError, match=r"mixture.keywords"):
        instruct_rows(study, bare)
    without = study.model_copy(update={"mixture": Mixture(keywords=0.0, text_only=0.0)})
    assert len(instruct_rows(without, bare)) == 53 * 4


def test_probe_sets_pair_up(made: SimpleNamespace) -> None:
    visual, text, images, texts = (getattr(made, f"probe-{name}") for name in PROBES)
    for other in (text, images, texts):
        assert other["item_id"].tolist() == visual["item_id"].tolist()
    assert visual["item_id"].is_unique and len(visual) == 24
    assert visual["subgroup"].isin(made.study.concepts.unseen_subgroups).any()
    labels = made.concepts.set_index("concept")["label"][visual["concept"]].tolist()
    assert asked(texts).tolist() == labels
    assert set(asked(images)) == {"<image>"}
    question = asked(visual).str.removeprefix("<image>\n")
    assert asked(text).tolist() == [f"{a}\n{b}" for a, b in zip(labels, question, strict=True)]
    assert (visual["image_id"] == visual["concept"] + "/filled").all()
    assert texts["image_id"].isna().all()


def test_splits_show_what_their_names_say(made: SimpleNamespace) -> None:
    for name in ("kind_image", "presence", "naming"):
        frame = getattr(made, name)
        unseen = frame["subgroup"].isin(made.study.concepts.unseen_subgroups)
        style = frame["image_id"].str.split("/").str[1]
        assert (unseen == (frame["split"] == "unseen_concept")).all()
        assert ((style == "striped") == (frame["split"] == "unseen_style")).all()
        assert frame["item_id"].is_unique
        assert (frame["cluster"] == frame["image_id"]).all()
    seen = made.kind_image[made.kind_image["split"] == "seen_style"]
    assert seen["image_id"].isin(set(made.instruct["image_id"].dropna())).all()


def test_kind_items_ask_the_same_of_pictures_and_names(made: SimpleNamespace) -> None:
    def plan(frame: pd.DataFrame, split: str) -> list[tuple[str, ...]]:
        part = frame[frame["split"] == split]
        return [(row.concept, *row.choices) for row in part.itertuples()]

    for on_pictures, on_names in (
        ("seen_style", "seen_concept"),
        ("unseen_style", "seen_concept"),
        ("unseen_concept", "unseen_concept"),
    ):
        asked_of = plan(made.kind_image, on_pictures)
        assert asked_of == plan(made.kind_text, on_names)
        # All kinds are options, so that a concept has one question: 24 of the 40 asked for.
        assert len(asked_of) == len(set(asked_of)) == 24
    shares = made.kind_image.groupby(["split", "kind"]).size()
    assert shares.min() == shares.max() == 8
    assert made.kind_text["image_id"].isna().all()
    assert (made.kind_text["cluster"] == made.kind_text["concept"]).all()


def test_presence_is_balanced_and_pairs_share_a_picture(made: SimpleNamespace) -> None:
    for _, group in made.presence.groupby(["split", "condition"]):
        assert group["answer"].value_counts().to_dict() == {"yes": 20, "no": 20}
        per_picture = group.groupby("image_id")["answer"].agg(sorted)
        assert per_picture.map(lambda answers: answers == ["no", "yes"]).all()
    pictures = made.presence.groupby(["split", "condition"])["image_id"].agg(frozenset)
    assert pictures.groupby("split").nunique().eq(1).all()


def test_negatives_are_what_their_condition_says(made: SimpleNamespace) -> None:
    by_label = made.concepts.set_index("label")
    false = made.presence[made.presence["answer"] == "no"]
    other = by_label.loc[asked(false).map(asked_label)]
    adversarial = (false["condition"] == "adversarial").to_numpy()
    same_subgroup = other["subgroup"].to_numpy() == false["subgroup"].to_numpy()
    assert same_subgroup[adversarial].all()
    random = (false["condition"] == "random").to_numpy()
    assert (other["kind"].to_numpy() != false["kind"].to_numpy())[random].all()
    popular = other[(false["condition"] == "popular").to_numpy()]
    true = made.instruct.loc[made.instruct["answer_class"] == "yes", "concept"].value_counts()
    asked_for = true.reindex(popular["concept"]).fillna(0)
    ranked = true.reindex(made.concepts.loc[~made.concepts["unseen"], "concept"]).fillna(0)
    assert asked_for.min() >= ranked.sort_values(ascending=False).iloc[19]


def test_majority_is_the_training_sets_most_frequent_answer(made: SimpleNamespace) -> None:
    tasks = made.instruct.groupby("task")["answer_class"]
    kinds = tasks.get_group("kind").value_counts()
    for frame in (made.kind_image, made.kind_text):
        for row in frame.itertuples():
            best = kinds.reindex(sorted(row.choices)).fillna(0).idxmax()
            assert row.majority == float(best == row.answer)
    assert ((made.presence["answer"] == "yes") == (made.presence["majority"] == 1.0)).all()
    naming = made.instruct[made.instruct["task"] == "naming"]
    labels = naming["conversations"].map(lambda turns: turns[-1]["value"]).value_counts()
    best = sorted(labels[labels == labels.max()].index)[0]
    assert ((made.naming["answer"] == best) == (made.naming["majority"] == 1.0)).all()


def test_chance_is_one_over_the_choices(made: SimpleNamespace) -> None:
    assert made.kind_image["chance"].eq(1 / 3).all()
    assert made.presence["chance"].eq(0.5).all()
    assert made.naming["chance"].eq(0.0).all()


def test_naming_asks_each_concept_once_per_split(made: SimpleNamespace) -> None:
    assert not made.naming.duplicated(["split", "concept"]).any()
    assert made.naming.groupby("split").size().eq(16).all()
    study = made.study.model_copy(
        update={"benchmarks": made.study.benchmarks.model_copy(update={"naming": 99})}
    )
    rows = dataset.read_concepts(made.folder / "concepts.parquet")
    items = dataset.benchmark_rows(study, rows, made.instruct.to_dict("records"))
    assert len(items["naming"]) == 3 * 24


def test_empty_split_is_an_error(made: SimpleNamespace) -> None:
    rows = dataset.read_concepts(made.folder / "concepts.parquet")
    seen = [one for one in rows if not one.unseen]
    with pytest.raises(DataError, match="no unseen concepts"):
        dataset.benchmark_rows(made.study, seen, made.instruct.to_dict("records"))


def test_every_concept_has_a_picture_in_every_style(made: SimpleNamespace) -> None:
    table = read_table(made.folder / "images.parquet", IMAGES)
    assert table.num_rows == len(made.concepts) * 3
    assert set(made.images["style"]) == {"filled", "outlined", "striped"}
    wanted = set(made.instruct["image_id"].dropna()) | set(made.kind_image["image_id"])
    assert wanted <= set(made.images["image_id"])
    image = made.images["image"][0]
    assert image["path"] == f"{made.images['image_id'][0]}.png"
    assert Image.open(io.BytesIO(image["bytes"])).size == (64, 64)


def test_same_study_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from test_dataset import larger_study, make; "
        "make(larger_study(), Path(sys.argv[1]))"
    )
    results = []
    for hash_seed in ("1", "2"):
        folder = tmp_path / hash_seed
        folder.mkdir()
        paths = [str(Path(__file__).parent), *sys.path]
        environment = os.environ | {
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        }
        command = [sys.executable, "-c", code, str(folder)]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        results.append(digests(folder))
    assert len(results[0]) == 4 + len(PROBES) + len(BENCHMARKS)
    assert results[0] == results[1]


def test_seed_changes_the_rows(tmp_path: Path, made: SimpleNamespace) -> None:
    make(made.study.model_copy(update={"seed": 8}), tmp_path)
    changed = digests(tmp_path)
    for name, digest in digests(made.folder).items():
        same = name in ("concepts.parquet", "images.parquet")
        assert (changed[name] == digest) == same, name


def test_seen_pictures_are_those_of_training_where_there_are_any(made: SimpleNamespace) -> None:
    rows = dataset.read_concepts(made.folder / "concepts.parquet")
    outlined = made.instruct[made.instruct["image_id"].str.endswith("/outlined", na=False)]
    items = dataset.benchmark_rows(made.study, rows, outlined.to_dict("records"))
    trained = set(outlined["concept"])
    seen = [row for row in items["kind_image"] if row["split"] == "seen_style"]
    shown = {row["image_id"].split("/")[1] for row in seen if row["concept"] in trained}
    assert shown == {"outlined"}
