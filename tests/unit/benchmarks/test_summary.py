import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import precision_recall_fscore_support

from layersight.benchmarks.scoring import cider
from layersight.benchmarks.summary import (
    DIFFERENCE_COLUMNS,
    SCORE_COLUMNS,
    difference_table,
    score_table,
)

CONDITIONS = ("random", "popular", "adversarial")


def rows(subject: str, benchmark: str, size: int, **columns: object) -> pd.DataFrame:
    """Items of one subject on one benchmark, one picture each unless said otherwise."""
    variant, _, seed = subject.partition("/seed-")
    table = {
        "subject": subject,
        "variant": variant,
        "seed": int(seed or -1),
        "benchmark": benchmark,
        "split": "test",
        "condition": "",
        "item_id": [f"{benchmark}-{index:04d}" for index in range(size)],
        "concept": "dog",
        "cluster": [f"picture-{index:04d}" for index in range(size)],
        "kind": "noun",
        "prompt": "?",
        "answer": "dog",
        "prediction": "dog",
        "score": 1.0,
        "cider": np.nan,
        "chance": 0.25,
        "majority": 0.0,
    }
    return pd.DataFrame(table | columns)


def presence(subject: str, seed: int, size: int = 60, commoner: str = "yes") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for condition in CONDITIONS:
        answers = np.where(np.arange(size) % 3 == 0, "yes", "no")
        said = np.where(rng.random(size) < 0.7, answers, np.where(answers == "yes", "no", "yes"))
        parts.append(
            rows(
                subject,
                "presence",
                size,
                condition=condition,
                answer=answers,
                prediction=[f"{word.capitalize()}, I think." for word in said],
                score=(answers == said).astype(float),
                chance=0.5,
                majority=(answers == commoner).astype(float),
            )
        )
    return pd.concat(parts, ignore_index=True)


def kinds(subject: str, seed: int, size: int = 50) -> pd.DataFrame:
    scores = (np.random.default_rng(seed).random(size) < 0.6).astype(float)
    return rows(subject, "kind_image", size, score=scores, majority=scores[::-1])


def one(table: pd.DataFrame, **where: object) -> pd.Series:
    found = table
    for column, value in where.items():
        found = found[found[column] == value]
    assert len(found) == 1
    return found.iloc[0]


def test_accuracy_row_holds_mean_interval_and_baselines() -> None:
    items = kinds("full/seed-1", 0, size=300)
    row = one(score_table(items, resamples=1000, seed=0))
    expected = stats.bootstrap(
        (items["score"].to_numpy(),),
        np.mean,
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert row["value"] == pytest.approx(items["score"].mean())
    # Two bootstraps of a mean with a standard error of 0.03 agree to a fraction of it.
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert (row["chance"], row["majority"]) == (0.25, pytest.approx(items["score"].mean()))
    assert (row["metric"], row["n"], row["variant"], row["seed"]) == ("accuracy", 300, "full", 1)


def test_presence_metrics_are_scikit_learns_by_condition_and_pooled() -> None:
    items = presence("full/seed-0", 1)
    table = score_table(items, resamples=200, seed=0)
    assert tuple(table.columns) == SCORE_COLUMNS
    assert set(table["condition"]) == {*CONDITIONS, "all"}
    for condition in (*CONDITIONS, "all"):
        part = items if condition == "all" else items[items["condition"] == condition]
        said = ["yes" if text.startswith("Yes") else "no" for text in part["prediction"]]
        expected = precision_recall_fscore_support(
            part["answer"], said, pos_label="yes", average="binary"
        )
        for metric, value in zip(("precision", "recall", "f1"), expected[:3], strict=True):
            row = one(table, condition=condition, metric=metric)
            assert row["value"] == pytest.approx(value)
            assert row["low"] < row["value"] < row["high"]
            assert row["n"] == len(part)
        ratio = one(table, condition=condition, metric="yes_ratio")
        assert ratio["value"] == pytest.approx(said.count("yes") / len(said))


def test_interval_of_f1_is_that_of_scipys_bootstrap() -> None:
    items = presence("full/seed-0", 2, size=240)
    items = items[items["condition"] == "random"]
    said = items["prediction"].str.startswith("Yes").to_numpy()
    right = (items["answer"] == "yes").to_numpy()
    expected = stats.bootstrap(
        (said, right),
        lambda x, y, axis: 2 * (x & y).sum(axis) / (x.sum(axis) + y.sum(axis)),
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    table = score_table(items, resamples=4000, seed=0)
    row = one(table, condition="random", metric="f1")
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=0.01)


@pytest.mark.parametrize("commoner", ["yes", "no"])
def test_presence_baselines_are_those_of_played_out_guesses(commoner: str) -> None:
    items = presence("base", 3, size=300, commoner=commoner)
    table = score_table(items, resamples=2, seed=0)
    answers = np.tile((items["answer"] == "yes").to_numpy(), 300)
    guesses = np.random.default_rng(4).random(answers.size) < 0.5
    always = np.full(answers.size, commoner == "yes")
    for column, said in (("chance", guesses), ("majority", always)):
        precision, recall, f1, _ = precision_recall_fscore_support(
            answers, said, average="binary", zero_division=0.0
        )
        played = {
            "accuracy": (said == answers).mean(),
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "yes_ratio": said.mean(),
        }
        for metric, value in played.items():
            row = one(table, condition="all", metric=metric)
            assert row[column] == pytest.approx(value, abs=0.01), (column, metric)


def test_majority_that_is_neither_yes_nor_no_has_no_pope_baseline() -> None:
    items = presence("base", 3).assign(majority=0.0)
    table = score_table(items, resamples=2, seed=0)
    assert np.isnan(one(table, condition="all", metric="f1")["majority"])
    assert one(table, condition="all", metric="accuracy")["majority"] == 0.0


def test_naming_has_exact_match_and_cider() -> None:
    answers = ["brown dog", "grey cat", "old red bus"]
    texts = ["dog", "grey cat", "red bus"]
    _, by_item = cider(
        {str(index): text for index, text in enumerate(texts)},
        {str(index): [text] for index, text in enumerate(answers)},
    )
    items = rows(
        "base",
        "naming",
        3,
        answer=answers,
        prediction=texts,
        score=[0.0, 1.0, 0.0],
        cider=list(by_item.values()),
        chance=0.0,
        majority=0.0,
    )
    table = score_table(items, resamples=50, seed=0)
    assert one(table, metric="exact_match")["value"] == pytest.approx(1 / 3)
    row = one(table, metric="cider")
    assert row["value"] == pytest.approx(np.mean(list(by_item.values())))
    assert np.isnan(row["chance"])
    assert np.isnan(row["majority"])
    with pytest.raises(ValueError, match=r'naming/test: column "cider"'):
        score_table(items.assign(cider=[1.0, np.nan, 1.0]), resamples=50, seed=0)


def test_questions_about_one_picture_widen_the_interval() -> None:
    items = kinds("base", 5, size=40)
    repeated = pd.concat(
        [items.assign(item_id=items["item_id"] + suffix) for suffix in "abcd"], ignore_index=True
    )
    alone = one(score_table(items, seed=0))
    shared = one(score_table(repeated, seed=0))
    apart = one(score_table(repeated.assign(cluster=repeated["item_id"]), seed=0))
    width = alone["high"] - alone["low"]
    assert shared["high"] - shared["low"] == pytest.approx(width, rel=0.15)
    assert apart["high"] - apart["low"] == pytest.approx(width / 2, rel=0.2)


def test_table_depends_on_the_seed_but_not_on_row_order_or_other_subjects() -> None:
    items = pd.concat([kinds("aligned", 1), kinds("full/seed-0", 2), presence("aligned", 3)])
    table = score_table(items, resamples=300, seed=0)
    shuffled = score_table(items.sample(frac=1.0, random_state=0), resamples=300, seed=0)
    pd.testing.assert_frame_equal(table, shuffled)
    alone = score_table(kinds("full/seed-0", 2), resamples=300, seed=0)
    pd.testing.assert_frame_equal(
        table[table["subject"] == "full/seed-0"].reset_index(drop=True), alone
    )
    other = score_table(items, resamples=300, seed=1)
    assert not table["low"].equals(other["low"])


def test_difference_is_paired_by_item() -> None:
    aligned, tuned = kinds("aligned", 1, size=200), kinds("full/seed-0", 2, size=200)
    items = pd.concat([aligned, tuned.sample(frac=1.0, random_state=1)], ignore_index=True)
    row = one(difference_table(items, seed=0))
    assert tuple(row.index) == DIFFERENCE_COLUMNS
    gain = tuned["score"].to_numpy() - aligned["score"].to_numpy()
    expected = stats.bootstrap(
        (gain,),
        np.mean,
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert row["value"] == pytest.approx(gain.mean())
    assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert (row["subject"], row["reference"]) == ("full/seed-0", "aligned")


def test_identical_subjects_differ_by_exactly_zero() -> None:
    items = pd.concat([presence("aligned", 1), presence("full/seed-0", 1)])
    table = difference_table(items, resamples=100, seed=0)
    assert set(table["condition"]) == {*CONDITIONS, "all"}
    assert (table[["value", "low", "high"]] == 0.0).all(axis=None)
    reversed_table = difference_table(items, "full/seed-0", resamples=100, seed=0)
    assert set(reversed_table["subject"]) == {"aligned"}


def test_differences_between_other_items_are_refused() -> None:
    aligned, tuned = kinds("aligned", 1), kinds("full/seed-0", 2)
    with pytest.raises(ValueError, match=r"kind_image/test: the items differ, 49 against 50"):
        difference_table(pd.concat([aligned, tuned.iloc[1:]]), seed=0)
    with pytest.raises(ValueError, match="answer differs in 50 items"):
        difference_table(pd.concat([aligned, tuned.assign(answer="cat")]), seed=0)
    with pytest.raises(ValueError, match='"aligned" has no items'):
        difference_table(tuned, seed=0)
    with pytest.raises(ValueError, match="presence"):
        difference_table(pd.concat([aligned, tuned, presence("full/seed-0", 1)]), seed=0)
    partial = presence("full/seed-0", 1).query("condition != 'popular'")
    with pytest.raises(ValueError, match="presence"):
        difference_table(pd.concat([presence("aligned", 1), partial]), seed=0)


def test_tables_that_cannot_be_scored_are_refused() -> None:
    items = kinds("base", 1)
    with pytest.raises(ValueError, match="majority"):
        score_table(items.drop(columns="majority"), seed=0)
    with pytest.raises(ValueError, match="empty"):
        score_table(items.iloc[:0], seed=0)
    with pytest.raises(ValueError, match="more than once"):
        score_table(pd.concat([items, items.iloc[:1]]), seed=0)
    with pytest.raises(ValueError, match="unknown benchmarks"):
        score_table(items.assign(benchmark="colour"), seed=0)
    with pytest.raises(ValueError, match='"condition"'):
        score_table(items.assign(condition=None), seed=0)
    wrong = presence("base", 1)
    wrong.loc[wrong.index[4], "score"] = 1.0 - wrong["score"].iloc[4]
    with pytest.raises(ValueError, match="presence-0004 has score"):
        score_table(wrong, resamples=2, seed=0)
