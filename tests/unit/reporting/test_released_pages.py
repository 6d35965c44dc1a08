"""What figures, sentences and pages make of variants that others have trained."""

from __future__ import annotations

import json
import warnings

import pytest
from tests.conftest import ROOT

from layersight.reporting.catalogue import FIGURES
from layersight.reporting.dag import study_graph
from layersight.reporting.gaps import consequences, mark
from layersight.reporting.lineup import Lineup
from layersight.reporting.no_data import no_data, say_no_data, says_no_data
from layersight.reporting.provenance_pages import limits, models
from layersight.reporting.wording import sentences_of
from layersight.study import Study
from layersight.study_file import load_study

OPTIONS = {"source": "folder", "path": "/models/pair"}
RELEASED = {
    "pair": {"method": "released", "options": OPTIONS},
    "words": {"method": "released", "options": OPTIONS | {"inputs": "text"}},
}
# Tables in which a language model alone has no rows, and what it has rows of in the others.
OF_PICTURES = (
    "cross_modal", "alignment", "linear_probes", "attention", "attention_summary", "recovery",
)  # fmt: skip
ON_TEXT = {"probe": ("text_questions", "pair_texts", ""), "benchmark": ("kind_text",)}


def study_of(variants, **changes) -> Study:
    data = load_study(ROOT / "config/studies/smoke.yaml").model_dump(mode="json")
    return Study.model_validate_json(json.dumps(data | {"variants": variants} | changes))


def reduced(tables, *untrained):
    """Tables as a study has them in which `words` reads text alone and some are not trained."""
    return {
        name: frame[kept(name, frame, untrained)].reset_index(drop=True)
        for name, frame in tables.items()
    }


def kept(name, frame, untrained):
    """Which rows a table has then."""
    variants = frame["subject" if "subject" in frame else "variant"].str.partition("/")[0]
    words = variants == "words"
    rows = ~words if name in OF_PICTURES else variants != ""
    for column, values in ON_TEXT.items():
        if column in frame:
            rows &= ~words | frame[column].isin(values)
    return rows & ~variants.isin(untrained) if name == "training" else rows


@pytest.mark.parametrize("entry", FIGURES, ids=lambda entry: entry.name)
@pytest.mark.parametrize("trained", [True, False])
def test_every_figure_draws_and_speaks_of_a_study_with_released_models(entry, make_tables, trained):
    variants = (*(["full"] if trained else []), "pair", "words")
    lineup = Lineup(variants, released=("pair", "words"))
    untrained = ("pair", "words") if trained else ("aligned", "pair", "words")
    tables = reduced(make_tables(variants), *untrained)
    frames = [tables[name] for name in entry.tables]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if entry.applies(frames[0]):
            entry.draw(*frames, lineup).draw_without_rendering()
            text = entry.say(*frames, lineup)
        else:
            assert (entry.name, trained) == ("training", False)
            no_data(lineup).draw_without_rendering()
            text = say_no_data(lineup)
            assert says_no_data(sentences_of(text))
    assert len(sentences_of(text)) == 2
    assert "nan" not in text.lower()
    if entry.name == "training":
        told = "released, not trained here" if trained else "Not trained here, but released"
        assert told in text and "pair, words" in text


def test_the_page_of_models_says_what_is_released_and_how_much_of_it_differs(tmp_path):
    study = study_of(RELEASED)
    path = tmp_path / "manifest.json"
    rows = {"base": 32_000, "released": 32_064, "taken": 32_000}
    path.write_text(json.dumps({"differing": 1234, "vocabulary": rows, "trainable_vision": 7}))
    page = models(study, {"models/pair/seed-0": path}, Lineup.of(study))
    found = {row[0]: row[1:] for row in page.rows}
    what, counted = found["variant pair"]
    assert "the folder /models/pair: released, not trained here" in what
    assert "of its 32,064 rows of embeddings 32,000 are taken, the base has 32,000" in what
    assert "its vision encoder is not the study’s" in what
    assert "learning rate" not in what and "steps" not in what
    assert counted == "none here; 1,234 of the language model differ"
    assert "its language model alone, on text" in found["variant words"][0]
    assert any("Released, not trained here: pair, words" in said for said in limits(study))


def test_a_released_connector_is_no_training_of_so_many_steps():
    connector = {"kind": "mlp2x_gelu", "normalise": False}
    backbone = load_study(ROOT / "config/studies/smoke.yaml").model_dump(mode="json")["backbone"]
    study = study_of(
        RELEASED, align={"released": OPTIONS}, backbone=backbone | {"connector": connector}
    )
    rows = {row[0]: row[1] for row in models(study, {}, Lineup.of(study)).rows}
    assert rows["alignment"] == (
        "the connector of the folder /models/pair: released, not trained here"
    )


def test_one_released_subject_beside_three_seeds_is_no_gap():
    study = study_of(RELEASED | {"full": {"method": "full"}}, seeds=3)
    lineup = Lineup.of(study)
    assert [lineup.seeds_of(name) for name in lineup.variants] == [1, 1, 3]
    assert not consequences(lineup)
    assert mark(lineup, "pair") == ""
    assert "(1 for pair, 1 for words)" in lineup.reading


def test_the_drawing_counts_what_a_language_model_alone_takes_part_in():
    counts = dict(study_graph(study_of(RELEASED))[0])
    assert counts["tuning"] == 2
    assert counts["patching"] == 1
    assert counts["activations"] == 2 * 4 + 2 * 2  # aligned, pair; base, words
    assert counts["geometry"] == 4
