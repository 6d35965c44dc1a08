"""From one row per item to tables of scores with intervals.

The intervals are percentile bootstraps over pictures (column `cluster`), since several questions
may share one. Every subject of a group is resampled with the same draws, and the draws of a group
depend on the study's seed and the group's name alone: a further subject or benchmark leaves the
other rows as they were.
"""

from collections.abc import Hashable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layersight.benchmarks.scoring import pope_scores, yes_no
from layersight.errors import DataError
from layersight.seeds import derive_seed
from layersight.statistics import (
    Interval,
    bootstrap_mean,
    paired_difference,
    percentile_ends,
    resampled_means,
)

FloatArray = NDArray[np.float64]

# Metrics that are means over items, and the column each is the mean of.
MEAN_METRICS: dict[str, dict[str, str]] = {
    "kind_image": {"accuracy": "score"},
    "kind_text": {"accuracy": "score"},
    "presence": {"accuracy": "score"},
    "naming": {"exact_match": "score", "cider": "cider"},
}
QUESTION_METRICS = {"lenient_match": "score", "exact_match": "exact"}
"""The same of any other benchmark: one of questions from elsewhere."""
POPE_METRICS = ("f1", "precision", "recall", "yes_ratio")
POOLED = "all"

ITEM_COLUMNS = (
    "subject",
    "variant",
    "seed",
    "benchmark",
    "split",
    "condition",
    "item_id",
    "concept",
    "cluster",
    "kind",
    "prompt",
    "answer",
    "prediction",
    "score",
    "cider",
    "chance",
    "majority",
)
SCORE_COLUMNS = (
    "subject",
    "variant",
    "seed",
    "benchmark",
    "split",
    "condition",
    "metric",
    "n",
    "value",
    "low",
    "high",
    "chance",
    "majority",
)
DIFFERENCE_COLUMNS = (
    "subject",
    "reference",
    "benchmark",
    "split",
    "condition",
    "metric",
    "n",
    "value",
    "low",
    "high",
)


class ItemsError(DataError, ValueError):
    """The table of items is not one from which scores can be made."""


def score_table(
    items: pd.DataFrame, *, resamples: int = 2000, level: float = 0.95, seed: int
) -> pd.DataFrame:
    """Scores of every subject on every benchmark, with intervals and the two trivial baselines.

    Metrics: `accuracy` for `kind_image` and `kind_text`; `accuracy`, `f1`, `precision`, `recall`
    and `yes_ratio` for `presence` (Li et al., 2023), for each condition and, as condition "all",
    for the three pooled; `exact_match` and `cider` for `naming`; `lenient_match` and `exact_match`
    for questions from elsewhere. CIDEr is the mean of the items' scores: its document frequencies
    are held fixed in the resamples.

    Baselines, in each metric's own unit. For all metrics but POPE's and CIDEr they are means of the
    columns `chance` and `majority`; CIDEr has none (NaN). For POPE's metrics, with prevalence pi of
    "yes" among the items' answers:

    - chance, a guess of "yes" with probability 1/2: of n items pi n / 2 are hits and n / 2 are said
      "yes" in expectation, so precision is pi, recall and yes_ratio 1/2, and
      F1 = 2 hits / (said yes + right yes) = pi / (pi + 1/2) (ratio of expected counts);
    - majority, always the training set's commoner answer: for "yes" precision is pi, recall and
      yes_ratio 1, F1 = 2 pi / (1 + pi); for "no" all four are 0. Which of the two is read off
      the items, where `majority` is 1 when the answer is the commoner one; NaN where the items
      point to no single one of the two.

    Args:
        items: one row per subject, benchmark, split, condition and item, with `ITEM_COLUMNS`.
            `score` is a float, `cider` one for `naming` and NaN elsewhere; `seed` is -1 for
            subjects without one; `answer` of `presence` is "yes" or "no". Questions from
            elsewhere have a further column, `exact`, which is NaN in other benchmarks.
        resamples: number of resamples.
        level: nominal coverage of the intervals, strictly between 0 and 1.
        seed: the study's seed.

    Returns:
        One row per subject, benchmark, split, condition and metric with `SCORE_COLUMNS`, sorted by
        all keys but the metric; scores are float64 shares (CIDEr 0..10), `n` counts items.

    Raises:
        ItemsError: a column is missing or has a gap, a benchmark is unknown, an item occurs twice,
            a score is missing, or a `presence` score contradicts its prediction.
    """
    _check_items(items)
    rows = []
    keys = ["subject", "variant", "seed", "benchmark", "split"]
    for key, whole in items.groupby(keys, sort=True):
        subject, _, _, benchmark, split = key
        for condition, group in _conditions(whole, str(benchmark)):
            where = f"{subject}, {_place(benchmark, split, condition)}"
            draws = derive_seed(seed, f"scores/{benchmark}/{split}/{condition}")
            common = dict(zip(keys, key, strict=True)) | {"condition": condition, "n": len(group)}
            for metric, column in _metrics(str(benchmark)).items():
                has_baseline = column != "cider"
                interval = bootstrap_mean(
                    _scores(group, column, where),
                    resamples=resamples,
                    level=level,
                    rng=np.random.default_rng(draws),
                    clusters=group["cluster"].to_numpy(),
                )
                rows.append(
                    common
                    | {"metric": metric}
                    | _ends(interval)
                    | {
                        "chance": group["chance"].mean() if has_baseline else np.nan,
                        "majority": group["majority"].mean() if has_baseline else np.nan,
                    }
                )
            if benchmark == "presence":
                rng = np.random.default_rng(draws)
                rows.extend(common | row for row in _pope_rows(group, where, resamples, level, rng))
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def difference_table(
    items: pd.DataFrame,
    reference_subject: str = "aligned",
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int,
) -> pd.DataFrame:
    """Differences of every subject from one subject, paired by item, with intervals.

    Args:
        items: as for `score_table`.
        reference_subject: the subject that the others are compared with.
        resamples: number of resamples.
        level: nominal coverage of the intervals, strictly between 0 and 1.
        seed: the study's seed.

    Returns:
        One row per other subject, benchmark, split, condition (with "all" for `presence`) and
        metric (`accuracy`, `exact_match`, `cider`) with `DIFFERENCE_COLUMNS`; `value` is the mean
        of subject minus reference in the metric's unit. A benchmark and split on which a subject
        was not run at all gives no row.

    Raises:
        ItemsError: as `score_table`, and where the reference is missing altogether or two subjects
            were scored on different items of a benchmark, or on items of the same name that differ
            in answer or picture.
    """
    _check_items(items)
    subjects = sorted(items["subject"].unique())
    if reference_subject not in subjects:
        raise ItemsError(
            f'the reference subject "{reference_subject}" has no items; subjects are {subjects}'
        )
    keys = ["benchmark", "split"]
    reference_items = items[items["subject"] == reference_subject]
    references = {key: group for key, group in reference_items.groupby(keys)}
    rows = []
    others = items[items["subject"] != reference_subject]
    for (subject, benchmark, split), whole in others.groupby(["subject", *keys], sort=True):
        conditions = dict(_conditions(whole, str(benchmark)))
        empty = whole.iloc[:0]
        against = dict(_conditions(references.get((benchmark, split), empty), str(benchmark)))
        for condition in sorted(conditions.keys() | against.keys()):
            first, second = conditions.get(condition, empty), against.get(condition, empty)
            where = f"{subject} against {reference_subject}, {_place(benchmark, split, condition)}"
            _check_pairing(first, second, where)
            draws = derive_seed(seed, f"differences/{benchmark}/{split}/{condition}")
            for metric, column in _metrics(str(benchmark)).items():
                interval = paired_difference(
                    _scores(first, column, where),
                    _scores(second, column, where),
                    resamples=resamples,
                    level=level,
                    rng=np.random.default_rng(draws),
                    clusters=first["cluster"].to_numpy(),
                )
                rows.append(
                    {
                        "subject": subject,
                        "reference": reference_subject,
                        "benchmark": benchmark,
                        "split": split,
                        "condition": condition,
                        "metric": metric,
                        "n": len(first),
                    }
                    | _ends(interval)
                )
    return pd.DataFrame(rows, columns=list(DIFFERENCE_COLUMNS))


def _pope_rows(
    group: pd.DataFrame, where: str, resamples: int, level: float, rng: np.random.Generator
) -> Iterator[dict[str, object]]:
    """POPE's metrics other than accuracy, each with its interval and baselines."""
    answers = group["answer"].tolist()
    predictions = group["prediction"].tolist()
    right_yes = np.array([answer == "yes" for answer in answers], dtype=np.float64)
    said_yes = np.array([yes_no(text) == "yes" for text in predictions], dtype=np.float64)
    contradicted = np.flatnonzero(group["score"].to_numpy() != (right_yes == said_yes))
    if contradicted.size:
        row = group.iloc[int(contradicted[0])]
        raise ItemsError(
            f"{where}: item {row['item_id']} has score {row['score']}, but its prediction "
            f"{row['prediction']!r} against the answer {row['answer']!r} says otherwise"
        )
    observed = pope_scores(predictions, answers)
    means = resampled_means(
        [right_yes * said_yes, said_yes, right_yes],
        resamples=resamples,
        rng=rng,
        clusters=group["cluster"].to_numpy(),
    )
    hits, said, right = means.T
    replicates = {
        "f1": _ratio(2.0 * hits, said + right),
        "precision": _ratio(hits, said),
        "recall": _ratio(hits, right),
        "yes_ratio": said,
    }
    prevalence = float(right_yes.mean())
    chance = {
        "f1": prevalence / (prevalence + 0.5),
        "precision": prevalence,
        "recall": 0.5 if prevalence else 0.0,
        "yes_ratio": 0.5,
    }
    majority = _constant_answer_scores(group, right_yes, prevalence)
    for metric in POPE_METRICS:
        low, high = percentile_ends(replicates[metric], level=level)
        yield {
            "metric": metric,
            "value": getattr(observed, metric),
            "low": low,
            "high": high,
            "chance": chance[metric],
            "majority": majority[metric],
        }


def _constant_answer_scores(
    group: pd.DataFrame, right_yes: FloatArray, prevalence: float
) -> dict[str, float]:
    """POPE's metrics of always giving the training set's commoner answer."""
    gains = group["majority"].to_numpy(dtype=np.float64)
    if np.array_equal(gains, right_yes):
        return {
            "f1": 2.0 * prevalence / (1.0 + prevalence),
            "precision": prevalence,
            "recall": 1.0 if prevalence else 0.0,
            "yes_ratio": 1.0,
        }
    if np.array_equal(gains, 1.0 - right_yes):
        return dict.fromkeys(POPE_METRICS, 0.0)
    return dict.fromkeys(POPE_METRICS, np.nan)


def _ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient with 0/0 = 0, the convention of `pope_scores`."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0.0)


def _conditions(group: pd.DataFrame, benchmark: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Parts of a benchmark that are scored on their own, each in the order of its items."""
    ordered = group.sort_values(["condition", "item_id"], kind="stable")
    for condition, part in ordered.groupby("condition", sort=True):
        yield str(condition), part
    if benchmark == "presence" and len(ordered):
        yield POOLED, ordered


def _check_items(items: pd.DataFrame) -> None:
    missing = [column for column in ITEM_COLUMNS if column not in items.columns]
    if missing:
        raise ItemsError(f"the table of items lacks the columns {missing}")
    if items.empty:
        raise ItemsError("the table of items is empty; nothing was scored")
    for column in ITEM_COLUMNS:
        if column == "cider":
            continue
        gaps = int(items[column].isna().sum())
        if gaps:
            raise ItemsError(f'column "{column}" of the table of items is missing in {gaps} rows')
    others = items[~items["benchmark"].isin(list(MEAN_METRICS))]
    if len(others) and ("exact" not in items.columns or others["exact"].isna().any()):
        unknown = sorted(set(others["benchmark"]))
        raise ItemsError(
            f"unknown benchmarks {unknown}; known are {sorted(MEAN_METRICS)}, and those with the "
            f'column "exact"'
        )
    presence = items[items["benchmark"] == "presence"]
    if (presence["condition"] == POOLED).any():
        raise ItemsError(f'presence has the condition "{POOLED}", which names the pooled rows')
    odd = sorted(set(presence["answer"]) - {"yes", "no"})
    if odd:
        raise ItemsError(f'presence: answers must be "yes" or "no"; found {odd[:3]}')
    key = ["subject", "benchmark", "split", "condition", "item_id"]
    repeated = items[items.duplicated(key)]
    if len(repeated):
        row = repeated.iloc[0]
        raise ItemsError(
            f"{row['subject']}, {_place(row['benchmark'], row['split'], row['condition'])}: "
            f"item {row['item_id']} occurs more than once ({len(repeated)} rows too many)"
        )


def _check_pairing(first: pd.DataFrame, second: pd.DataFrame, where: str) -> None:
    keys = ["condition", "item_id"]
    ours = set(first[keys].itertuples(index=False, name=None))
    theirs = set(second[keys].itertuples(index=False, name=None))
    if ours != theirs:
        only = sorted(ours ^ theirs)
        raise ItemsError(
            f"{where}: the items differ, {len(ours)} against {len(theirs)}; "
            f"{len(only)} are in one only, such as {only[0][1]}"
        )
    for column in ("answer", "cluster"):
        unequal = np.flatnonzero(first[column].to_numpy() != second[column].to_numpy())
        if unequal.size:
            item = first["item_id"].iloc[int(unequal[0])]
            raise ItemsError(
                f"{where}: {column} differs in {unequal.size} items, such as {item}; "
                "the two were not scored on the same data"
            )


def _metrics(benchmark: str) -> dict[str, str]:
    return MEAN_METRICS.get(benchmark, QUESTION_METRICS)


def _scores(group: pd.DataFrame, column: str, where: str) -> FloatArray:
    values = group[column].to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        item = group["item_id"].iloc[int(bad[0])]
        raise ItemsError(
            f'{where}: column "{column}" is not a number in {bad.size} of {values.size} items, '
            f"such as {item}"
        )
    return values


def _place(benchmark: Hashable, split: Hashable, condition: Hashable) -> str:
    return "/".join(str(part) for part in (benchmark, split, condition) if part != "")


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}
