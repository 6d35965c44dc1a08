"""Tasks of questions from elsewhere in figures and sentences of scores."""

from __future__ import annotations

import pandas as pd

from layersight.reporting import figures_scores, sentences_outcomes
from layersight.reporting.lineup import Lineup, benchmark_words, main_metric
from layersight.reporting.wording import sentences_of

LINEUP = Lineup(variants=("full",))


def scores() -> pd.DataFrame:
    rows = [
        {
            "subject": subject, "variant": subject.partition("/")[0], "seed": 0,
            "benchmark": benchmark, "split": split, "condition": "all", "metric": metric, "n": 20,
            "value": value, "low": value - 0.1, "high": value + 0.1, "chance": chance,
            "majority": 0.2,
        }
        for subject, value in (("aligned", 0.4), ("full/seed-0", 0.7))
        for benchmark, split, metric, chance in (
            ("kind_text", "seen_concept", "accuracy", 0.3), ("coco", "all", "lenient_match", 0.0),
            ("coco", "all", "exact_match", 0.0), ("coco_text", "all", "lenient_match", 0.25),
        )
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_sets_of_questions_have_a_panel_each_after_the_pictograms():
    assert figures_scores.score_panels(scores()) == [
        ("kind_text", "accuracy"), ("coco", "lenient_match"), ("coco_text", "lenient_match"),
    ]  # fmt: skip
    figure = figures_scores.scores(scores(), LINEUP)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[1:] == ["coco\nquestions, about pictures", "coco_text\nquestions, in words alone"]
    labels = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert labels == ["all items\nn = 20"]
    assert figure.axes[1].get_xlabel() == "lenient match (share of items)"


def test_sentences_speak_of_the_lenient_rule():
    frame = scores()
    said = sentences_outcomes.scores(frame[frame["benchmark"] == "coco"], LINEUP)
    assert "On coco, all items (n = 20), full scores highest: lenient match 0.70" in said
    assert "Of the 1 scores of tuned subjects" in said and len(sentences_of(said)) == 2
    assert main_metric("coco") == "lenient_match" and main_metric("naming") == "exact_match"
    assert benchmark_words("naming") == "name what the picture shows"
