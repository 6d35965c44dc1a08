"""Two sentences on every figure of scores, recovery and training, computed from its table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from layersight.reporting.figures_recovery import METRIC_WORDS, by_window, gain_is_clear
from layersight.reporting.figures_scores import score_panels, splits_of, whole, with_baselines
from layersight.reporting.lineup import SPLIT_WORDS, Lineup, main_metric, over_seeds, variant_of
from layersight.reporting.wording import (
    includes,
    largest,
    listed,
    number,
    sample,
    short,
    smallest,
    two,
    with_band,
)

MOST_NAMED = 3


def scores(frame: pd.DataFrame, lineup: Lineup) -> str:
    """The best tuned score where it matters most, and which scores do not beat the baselines."""
    table = with_baselines(whole(frame), ["benchmark", "split", "metric"])
    benchmark, metric = score_panels(table)[0]
    rows = table[(table["benchmark"] == benchmark) & (table["metric"] == metric)]
    splits = splits_of(rows)
    split = "unseen_style" if "unseen_style" in splits else splits[0]
    rows = rows[rows["split"] == split]
    tuned = rows[rows["variant"].isin(lineup.variants)]
    best = largest(tuned if len(tuned) else rows)
    opening = (
        f"On {benchmark}, {SPLIT_WORDS.get(split, split)} (n = {best.n}), {best.variant} scores "
        f"highest: {metric.replace('_', ' ')} {with_band(best, lineup)}, with chance at "
        f"{number(best.chance)} and the majority answer at {number(best.majority)}"
    )
    judged = table[table["variant"].isin(lineup.variants) & table["chance"].notna()].copy()
    judged = judged[judged["metric"] == judged["benchmark"].map(main_metric)]
    if judged.empty:
        return two(opening, "No tuned subject was scored")
    judged["baseline"] = judged[["chance", "majority"]].max(axis=1)
    beaten = judged["low"] > judged["baseline"]
    failing = judged[~beaten]
    counted = (
        f"Of the {len(judged)} scores of tuned subjects ({sample(judged['n'])}), {beaten.sum()} "
        f"lie above both chance and majority with their whole {lineup.band}"
    )
    if failing.empty:
        return two(opening, f"{counted}, and none does not")
    named = [
        f"{variant} on {benchmark}, {SPLIT_WORDS.get(split, split)}"
        for variant, benchmark, split in zip(
            failing["variant"], failing["benchmark"], failing["split"], strict=True
        )
    ]
    rest = f"; and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return two(
        opening,
        f"{counted}; {len(failing)} cannot be told apart from the better of the two or fall below "
        f"it: {listed(named[:MOST_NAMED])}{rest}",
    )


def presence(frame: pd.DataFrame, lineup: Lineup) -> str:
    """The best F1 of the yes-or-no benchmark beside its baselines, and the lean to one answer."""
    rows = frame[(frame["benchmark"] == "presence") & (frame["condition"] == "all")]
    table = with_baselines(rows, ["split", "metric"])
    tuned = table[table["variant"].isin(lineup.variants)]
    table = tuned if len(tuned) else table
    best = largest(table[table["metric"] == "f1"])
    baseline = max(best.chance, best.majority)
    verdict = (
        "above both"
        if best.low > baseline
        else "not told apart from the better of them"
        if includes(best, baseline)
        else "below it"
    )
    leaning = table[table["metric"] == "yes_ratio"].copy()
    leaning["distance"] = (leaning["value"] - 0.5).abs()
    most = largest(leaning, "distance")
    says = (
        "an interval that includes one half: it does not differ from even answers"
        if includes(most, 0.5)
        else f"too {'often' if most.value > 0.5 else 'seldom'} where half of the items are true"
    )
    return two(
        f"Over all kinds of negatives the best F1 is that of {best.variant} on "
        f"{SPLIT_WORDS.get(best.split, best.split)} (n = {best.n}), {with_band(best, lineup)}, "
        f"{verdict} (chance {number(best.chance)}, majority answer {number(best.majority)})",
        f"The share of “yes” is furthest from one half in {most.variant} on "
        f"{SPLIT_WORDS.get(most.split, most.split)}, {short(most)}, {says}",
    )


def differences(frame: pd.DataFrame, lineup: Lineup) -> str:
    """How many differences to the reference are told apart from zero, and the largest."""
    table = over_seeds(whole(frame), ["benchmark", "split", "metric"])
    table = table[table["variant"].isin(lineup.variants) & (table["metric"] != "cider")]
    reference = str(frame["reference"].iloc[0])
    if table.empty:
        return two(f"No tuned subject is compared with {reference}", "There is nothing to judge")
    aside = ", CIDEr left aside" if (frame["metric"] == "cider").any() else ""
    above, below = table["low"] > 0, table["high"] < 0
    unclear = len(table) - int(above.sum()) - int(below.sum())
    tail = (
        f"in {unclear} the {lineup.band} includes zero, so there the subject does not differ "
        f"clearly from {reference}"
        if unclear
        else f"in none does the {lineup.band} include zero"
    )
    top = largest(table)
    where = f"{top.benchmark}, {SPLIT_WORDS.get(top.split, top.split)} (n = {top.n})"
    kind = "gain" if top.value > 0 else "change, a loss,"
    claim = f", whose {lineup.band_of(top.variant)} includes zero" if includes(top, 0.0) else ""
    return two(
        f"Of {len(table)} paired differences to {reference} ({sample(table['n'])}{aside}), "
        f"{above.sum()} lie above zero and {below.sum()} below; {tail}",
        f"The best {kind} is that of {top.variant} on {where}, "
        f"{number(top.value, signed=True)} ({lineup.band_of(top.variant)} "
        f"{number(top.low, signed=True)} to {number(top.high, signed=True)}){claim}",
    )


def training(frame: pd.DataFrame, lineup: Lineup) -> str:
    """How far the loss of both stages fell."""
    runs = []
    for subject, run in frame.groupby("subject", sort=False):
        ordered = run.sort_values("step")
        tenth = max(1, len(ordered) // 10)
        runs.append(
            {
                "variant": variant_of(str(subject)),
                "steps": len(ordered),
                "first": ordered["loss"].head(tenth).mean(),
                "final": ordered["loss"].tail(tenth).mean(),
            }
        )
    table = pd.DataFrame(runs).groupby("variant", sort=False).mean().reset_index()
    aligned = table[table["variant"] == "aligned"]
    tuned = table[table["variant"].isin(lineup.variants)]
    others = ", ".join(lineup.released)
    aside = f" ({others}: released, not trained here)" if others else ""
    opening = "Stage 1 left no training log"
    if len(aligned):
        row = aligned.iloc[0]
        opening = (
            f"In stage 1 (n = {row['steps']:.0f} steps) the mean loss {_moved(row)} from the first "
            "to the last tenth of the steps"
        )
    if tuned.empty:
        return two(opening, f"Stage 2 left no training log{aside}")
    low, high = smallest(tuned, "final"), largest(tuned, "final")
    closing = (
        f"In stage 2 (n = {tuned['steps'].min():.0f} steps){aside} that of {low.variant} ends "
        f"lowest: it {_moved(low._asdict())}"
    )
    if low.variant != high.variant:
        closing += f"; that of {high.variant} ends highest, at {number(high.final)}"
    return two(opening, closing)


def _moved(row: Any) -> str:
    word = "falls" if row["final"] < row["first"] else "does not fall: it goes"
    return f"{word} from {number(row['first'])} to {number(row['final'])}"


def recovery_cumulative(frame: pd.DataFrame, lineup: Lineup) -> str:
    """At which depth half of the gain is reached, and lost, and what the connector carries."""
    return _recovery(frame, lineup, "cumulative")


def recovery_sliding(frame: pd.DataFrame, lineup: Lineup) -> str:
    """Which single window carries, and is needed for, most of the gain."""
    return _recovery(frame, lineup, "sliding")


def _recovery(frame: pd.DataFrame, lineup: Lineup, sweep: str) -> str:
    metric = "accuracy" if "accuracy" in set(frame["metric"]) else str(frame["metric"].iloc[0])
    given, taken = [], []
    for name in lineup.present(frame):
        rows = frame[(frame["variant"] == name) & (frame["metric"] == metric)]
        if not gain_is_clear(rows, lineup.level):
            given.append(
                f"{name} has no clear gain ({number(rows['score_base'].mean())} aligned, "
                f"{number(rows['score_tuned'].mean())} tuned), so its raw scores are drawn"
            )
            continue
        table = by_window(rows, raw=False)
        into_aligned = table[table["direction"] == "tuned_into_base"]
        into_tuned = table[table["direction"] == "base_into_tuned"]
        told = _half_gained if sweep == "cumulative" else _best_window
        if (into_aligned["sweep"] == sweep).any():
            given.append(told(name, into_aligned))
        told = _half_lost if sweep == "cumulative" else _worst_window
        if (into_tuned["sweep"] == sweep).any():
            taken.append(told(name, into_tuned))
    size = f"{METRIC_WORDS[metric]}, {sample(frame['n'])} items, {lineup.band} in brackets"
    first = f"With tuned blocks put into aligned ({size}), {listed(given)}"
    if not given:
        first = f"Tuned blocks were not put into aligned ({size})"
    if taken:
        return two(first, f"With aligned blocks put into the tuned model, {listed(taken)}")
    return two(
        first, "With aligned blocks put into a tuned model there is no loss of a clear gain to show"
    )


def _window(row: Any) -> str:
    return f"[{int(row.start)}, {int(row.stop)})"


def _half_gained(name: str, table: pd.DataFrame) -> str:
    windows = table[table["sweep"] == "cumulative"].sort_values("stop")
    reached = windows[windows["value"] >= 0.5]
    alone = table[(table["sweep"] == "connector") & (table["stop"] == 0)]
    connector = f", and the connector alone recovers {short(alone.iloc[0])}" if len(alone) else ""
    if reached.empty:
        return f"{name} stays below half of its gain in every window{connector}"
    row = reached.iloc[0]
    return f"{name} first recovers half of its gain with {_window(row)}, {short(row)}{connector}"


def _half_lost(name: str, table: pd.DataFrame) -> str:
    windows = table[table["sweep"] == "cumulative"].sort_values("stop")
    lost = windows[windows["value"] < 0.5]
    if lost.empty:
        return f"{name} keeps at least half of its gain in every window"
    row = lost.iloc[0]
    return f"{name} first keeps less than half of its gain with {_window(row)}, {short(row)}"


def _best_window(name: str, table: pd.DataFrame) -> str:
    row = largest(table[table["sweep"] == "sliding"])
    claim = ", which does not differ clearly from none" if includes(row, 0.0) else ""
    return f"{name} recovers most with {_window(row)}, {short(row)}{claim}"


def _worst_window(name: str, table: pd.DataFrame) -> str:
    row = smallest(table[table["sweep"] == "sliding"])
    claim = ", which does not differ clearly from all" if includes(row, 1.0) else ""
    return f"{name} keeps least of its gain without {_window(row)}, {short(row)}{claim}"
