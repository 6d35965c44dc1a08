"""Activations on a scratch file system: the link, and what a user is told who cannot have it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from layersight.errors import UserError
from layersight.storage.scratch import VARIABLE, home_of, place_large, scratch_folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "clone/results/mine"


def test_the_variable_goes_before_the_study_and_the_user_is_filled_in(smoke, monkeypatch):
    assert scratch_folder(smoke) is None
    monkeypatch.setenv("USER", "ada")
    set_ = smoke.model_copy(
        update={"compute": smoke.compute.model_copy(update={"scratch": "/fast/$USER"})}
    )
    assert scratch_folder(set_) == Path("/fast/ada")
    monkeypatch.setenv(VARIABLE, "~/large")
    assert scratch_folder(set_) == Path.home() / "large"
    assert scratch_folder(smoke) == Path.home() / "large"


def test_activations_are_linked_and_their_copies_lie_beside_them(results, tmp_path):
    place_large(results, tmp_path / "scratch")
    (results / "activations/base").mkdir()
    (made,) = (tmp_path / "scratch").glob("mine-*/activations/base")
    assert home_of(results / "activations/base/texts", results) == made.parents[1]
    assert home_of(results / "models/aligned", results) == results
    assert home_of(tmp_path / "elsewhere", results) == results


def test_without_a_scratch_folder_nothing_is_linked(results):
    place_large(results, None)
    assert not results.exists()


def test_two_clones_with_a_study_of_the_same_name_share_nothing(tmp_path):
    for clone in ("one", "two"):
        place_large(tmp_path / clone / "results/mine", tmp_path / "scratch")
    assert len(list((tmp_path / "scratch").iterdir())) == 2


def test_a_link_stays_when_the_setting_goes_and_a_cleaned_scratch_is_made_again(results, tmp_path):
    place_large(results, tmp_path / "scratch")
    target = Path(os.readlink(results / "activations"))
    target.rmdir()
    target.parent.rmdir()
    place_large(results, None)
    assert target.is_dir()
    place_large(results, tmp_path / "another")
    assert Path(os.readlink(results / "activations")) == target


def test_activations_that_lie_among_the_results_are_not_hidden_behind_a_link(results, tmp_path):
    (results / "activations/base").mkdir(parents=True)
    with pytest.raises(UserError) as error:
        place_large(results, tmp_path / "scratch")
    said = str(error.value)
    assert f"{results / 'activations'}: holds activations already" in said
    # What it says to do is what helps.
    commands = said[said.index("(mkdir") + 1 : said.index("), or unset")]
    assert os.system(commands) == 0
    place_large(results, tmp_path / "scratch")
    assert (results / "activations").is_symlink() and (results / "activations/base").is_dir()


def test_an_empty_folder_makes_room(results, tmp_path):
    (results / "activations").mkdir(parents=True)
    place_large(results, tmp_path / "scratch")
    assert (results / "activations").is_symlink()


def test_a_scratch_folder_that_cannot_be_made_is_named(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/mine-\w+/activations: the scratch folder cannot"):
        place_large(results, tmp_path / "file")
    assert not (results / "activations").is_symlink()
