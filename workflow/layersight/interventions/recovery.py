"""How much of the gain of tuning each patched window carries."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layersight.seeds import derive_seed
from layersight.statistics import bootstrap_mean, recovery

FloatArray = NDArray[np.float64]

DIRECTIONS = ("tuned_into_base", "base_into_tuned")
SWEEPS = ("cumulative", "sliding", "reference", "connector")
CONNECTORS = ("target", "donor")
# Metric of the output, and the column of the input it is the mean of.
METRICS = {"accuracy": "score", "logit_margin": "logit_margin"}

ITEM_COLUMNS = (
    "variant",
    "seed",
    "direction",
    "sweep",
    "start",
    "stop",
    "connector",
    "benchmark",
    "item_id",
    "cluster",
    "score",
    "logit_margin",
)
RECOVERY_COLUMNS = (
    "variant",
    "seed",
    "direction",
    "sweep",
    "start",
    "stop",
    "connector",
    "metric",
    "n",
    "score",
    "score_low",
    "score_high",
    "score_base",
    "score_tuned",
    "recovery",
    "recovery_low",
    "recovery_high",
    "undefined_share",
)


def recovery_table(
    items: pd.DataFrame, *, resamples: int = 2000, level: float = 0.95, seed: int
) -> pd.DataFrame:
    """Score and recovery of every patched model of a sweep, with paired intervals.

    recovery = (score(hybrid) - score(base)) / (score(tuned) - score(base)), over the same items for
    all three. The two reference models of a direction are rows of the table itself, scored in the
    same run: the unpatched target (sweep "reference", window [0, 0), connector "target") and the
    whole donor (sweep "reference", window [0, L), connector "donor"). Into the base model the
    target is base and the donor tuned; into the tuned model it is the other way round. Base is 0
    and tuned is 1 in both directions.

    All windows of a variant, seed and direction are resampled with the same draws, by cluster, so
    that a curve over windows is not roughened by the bootstrap.

    Args:
        items: one row per variant, seed, direction, sweep, window [start, stop), connector and
            item, with `ITEM_COLUMNS`; `score` is 0 or 1, `logit_margin` the right choice's
            log-probability minus the best wrong one's, in nats. One benchmark only.
        resamples: number of resamples.
        level: nominal coverage of the intervals, strictly between 0 and 1.
        seed: the study's seed.

    Returns:
        One row per patched model and metric ("accuracy", "logit_margin") with `RECOVERY_COLUMNS`,
        the two references included. Recovery and its ends are NaN where the tuned model does not
        beat the base model; `undefined_share` is the share of resamples in which it does not (see
        `layersight.statistics.RecoveryInterval`).

    Where no item has a logit margin, as when answers are free, the table has none.

    Raises:
        ValueError: a column is missing or has a gap, a word is unknown, the table holds several
            benchmarks, a reference is missing, or a patched model was scored on other items than
            its references.
    """
    _check_items(items)
    metrics = {name: key for name, key in METRICS.items() if items[key].notna().any()}
    rows = []
    sweep_keys = ["variant", "seed", "direction"]
    window_keys = ["sweep", "start", "stop", "connector"]
    for sweep_key, sweep in items.groupby(sweep_keys, sort=True):
        variant, variant_seed, direction = sweep_key
        place = f"{variant}/seed-{variant_seed}, {direction}"
        target = _by_item(_reference(sweep, "target", place), f"{place}, unpatched target")
        donor = _by_item(_reference(sweep, "donor", place), f"{place}, whole donor")
        _check_pairing(donor, target, f"{place}, whole donor")
        base, tuned = (target, donor) if direction == "tuned_into_base" else (donor, target)
        clusters = target["cluster"].to_numpy()
        draws = derive_seed(seed, f"recovery/{variant}/{variant_seed}/{direction}")
        for window_key, window in sweep.groupby(window_keys, sort=True):
            name, start, stop, connector = window_key
            where = f"{place}, {name} [{start}, {stop}) with the {connector}'s connector"
            hybrid = _by_item(window, where)
            _check_pairing(hybrid, target, where)
            for metric, column in metrics.items():
                hybrid_scores, base_scores, tuned_scores = (
                    model[column].to_numpy(dtype=np.float64) for model in (hybrid, base, tuned)
                )
                score = bootstrap_mean(
                    hybrid_scores,
                    resamples=resamples,
                    level=level,
                    rng=np.random.default_rng(draws),
                    clusters=clusters,
                )
                share = recovery(
                    hybrid_scores,
                    base_scores,
                    tuned_scores,
                    resamples=resamples,
                    level=level,
                    rng=np.random.default_rng(draws),
                    clusters=clusters,
                )
                rows.append(
                    dict(zip(sweep_keys, sweep_key, strict=True))
                    | dict(zip(window_keys, window_key, strict=True))
                    | {
                        "metric": metric,
                        "n": len(hybrid),
                        "score": score.value,
                        "score_low": score.low,
                        "score_high": score.high,
                        "score_base": base_scores.mean(),
                        "score_tuned": tuned_scores.mean(),
                        "recovery": share.value,
                        "recovery_low": share.low,
                        "recovery_high": share.high,
                        "undefined_share": share.undefined_share,
                    }
                )
    return pd.DataFrame(rows, columns=list(RECOVERY_COLUMNS))


def _reference(sweep: pd.DataFrame, connector: str, place: str) -> pd.DataFrame:
    """Rows of the unpatched target, or of the whole donor."""
    rows = sweep[(sweep["sweep"] == "reference") & (sweep["connector"] == connector)]
    windows = sorted(set(zip(rows["start"].tolist(), rows["stop"].tolist(), strict=True)))
    right = "[0, 0)" if connector == "target" else "[0, L)"
    whole = len(windows) == 1 and windows[0][0] == 0
    if not whole or (windows[0][1] == 0) != (connector == "target"):
        raise ValueError(
            f'{place}: sweep "reference" with connector "{connector}" has the windows {windows}; '
            f"exactly one, {right}, is needed"
        )
    return rows


def _by_item(rows: pd.DataFrame, where: str) -> pd.DataFrame:
    ordered = rows.sort_values("item_id", kind="stable")
    repeated = ordered["item_id"][ordered["item_id"].duplicated()]
    if len(repeated):
        raise ValueError(
            f"{where}: item {repeated.iloc[0]} occurs more than once "
            f"({len(repeated)} rows too many)"
        )
    return ordered


def _check_pairing(hybrid: pd.DataFrame, target: pd.DataFrame, where: str) -> None:
    ours, theirs = set(hybrid["item_id"]), set(target["item_id"])
    if ours != theirs:
        only = sorted(ours ^ theirs)
        raise ValueError(
            f"{where}: scored on other items than the unpatched target, {len(ours)} against "
            f"{len(theirs)}; {len(only)} are in one only, such as {only[0]}"
        )
    unequal = np.flatnonzero(hybrid["cluster"].to_numpy() != target["cluster"].to_numpy())
    if unequal.size:
        raise ValueError(
            f"{where}: cluster differs from the unpatched target's in {unequal.size} items, such "
            f"as {hybrid['item_id'].iloc[int(unequal[0])]}"
        )


def _check_items(items: pd.DataFrame) -> None:
    missing = [column for column in ITEM_COLUMNS if column not in items.columns]
    if missing:
        raise ValueError(f"the table of patched items lacks the columns {missing}")
    if items.empty:
        raise ValueError("the table of patched items is empty; nothing was patched")
    for column in ITEM_COLUMNS:
        if column == "logit_margin" and items[column].isna().all():
            continue
        gaps = int(items[column].isna().sum())
        if gaps:
            raise ValueError(f'column "{column}" of the patched items is missing in {gaps} rows')
    for column, known in (
        ("direction", DIRECTIONS),
        ("sweep", SWEEPS),
        ("connector", CONNECTORS),
    ):
        unknown = sorted(set(items[column]) - set(known))
        if unknown:
            raise ValueError(f'column "{column}" has {unknown}; known are {list(known)}')
    benchmarks = sorted(set(items["benchmark"]))
    if len(benchmarks) > 1:
        raise ValueError(
            f"the patched items come from several benchmarks, {benchmarks}; their scores do not "
            "pool, so make one table for each"
        )
