"""The subjects of a study as figures, sentences and tables show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from layersight.layers import runs
from layersight.reporting.style import Look, looks
from layersight.study import Study
from layersight.study_questions import TEXT

PROBE_WORDS = {
    "visual_questions": "visual questions",
    "text_questions": "text questions",
    "pair_images": "pictures",
    "pair_texts": "names",
}
STREAM_WORDS = {
    "last": "last prompt token",
    "image_mean": "mean of image tokens",
    "text_mean": "mean of text tokens",
}
STREAM_SHORT = {
    "last": "last token",
    "image_mean": "image mean",
    "text_mean": "text mean",
    "one_image": "an image token",
    "one_text": "a text token",
    "one_image_reversed": "an image token",
    "one_text_reversed": "a text token",
}
BENCHMARK_WORDS = {
    "kind_image": "kind of thing, from the picture",
    "kind_text": "kind of thing, from the name alone",
    "presence": "is it in the picture? yes or no",
    "naming": "name what the picture shows",
}
SPLIT_WORDS = {
    "seen_style": "seen style",
    "unseen_style": "unseen style",
    "seen_concept": "seen concepts",
    "unseen_concept": "unseen concepts",
    "all": "all items",
}
BRIEF_METRICS = ("accuracy", "lenient_match", "exact_match", "cider")
MAIN_METRIC = {
    "kind_image": "accuracy",
    "kind_text": "accuracy",
    "presence": "accuracy",
    "naming": "exact_match",
}


QUESTION_METRIC = "lenient_match"


def benchmark_words(benchmark: str) -> str:
    """Return what a benchmark asks; one that is not of pictograms is a set of questions."""
    asked = f"questions, {'in words alone' if benchmark.endswith(TEXT) else 'about pictures'}"
    return BENCHMARK_WORDS.get(benchmark, asked)


def main_metric(benchmark: str) -> str:
    """Return the metric that stands for a benchmark."""
    return MAIN_METRIC.get(benchmark, QUESTION_METRIC)


@dataclass(frozen=True)
class Lineup:
    """What every figure needs to know besides its table.

    Attributes:
        variants: in the study's order, which fixes their looks.
        seeds: repetitions of each variant.
        ranges: variant to the blocks [a, b) it was allowed to change; absent when all.
        level: level of the intervals.
        failed: subjects that have no results. Their variants stay in `variants`: the looks of the
            others must not change with them.
        share: of a change that its window holds.
        released: variants that others have trained: they exist once.
    """

    variants: tuple[str, ...]
    seeds: int = 1
    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    level: float = 0.95
    failed: tuple[str, ...] = ()
    share: float = 0.5
    released: tuple[str, ...] = ()

    @classmethod
    def of(cls, study: Study, failed: Iterable[str] = ()) -> Lineup:
        """Return the lineup of a study, of whose tuned subjects some may have failed."""
        lost = set(failed)
        return cls(
            variants=tuple(study.variants),
            seeds=study.seeds,
            ranges={
                name: runs(blocks)
                for name in study.variants
                if (blocks := study.blocks(name)) is not None
            },
            level=study.statistics.level,
            share=study.geometry.concentration_share,
            failed=tuple(subject for subject in study.tuned_subjects if subject in lost),
            released=tuple(name for name, own in study.variants.items() if own.released),
        )

    @cached_property
    def looks(self) -> dict[str, Look]:
        """Look of every subject; variants stand for all of their seeds."""
        return looks(self.variants)

    @property
    def share_words(self) -> str:
        """How much of a change its window holds, in words."""
        return "half" if self.share == 0.5 else f"{100 * self.share:g} %"

    @property
    def order(self) -> list[str]:
        """`base`, `aligned` and the variants."""
        return ["base", "aligned", *self.variants]

    def present(self, frame: pd.DataFrame) -> list[str]:
        """Return which of them have rows in a frame with the column `variant`, in order."""
        found = set(frame["variant"])
        return [name for name in self.order if name in found]

    def planned(self, variant: str) -> int:
        """Return how many repetitions of a variant the study has."""
        return 1 if variant in self.released else self.seeds

    def seeds_of(self, variant: str) -> int:
        """Return how many repetitions of a variant have results."""
        return self.planned(variant) - sum(
            variant_of(subject) == variant for subject in self.failed
        )

    @property
    def all_failed(self) -> bool:
        """Whether no tuned subject has results."""
        return not self._seed_counts

    @property
    def _seed_counts(self) -> list[int]:
        """Different numbers of seeds that variants with results have, rising."""
        return sorted({count for name in self.variants if (count := self.seeds_of(name))})

    @property
    def _interval(self) -> str:
        return f"{100 * self.level:g} % interval"

    @property
    def _ranged(self) -> bool:
        """Whether any variant has a range over seeds."""
        return max(self._seed_counts, default=1) > 1

    @property
    def band(self) -> str:
        """What the interval beside a number is, in words."""
        if not self._ranged:
            return self._interval
        fewest, most = self._seed_counts[0], self._seed_counts[-1]
        if fewest == most:
            return f"range over {most} seeds"
        return f"range over {'up' if fewest == 1 else fewest} to {most} seeds"

    def band_of(self, variant: str) -> str:
        """What the interval of one subject's number is: only variants are repeated over seeds."""
        seeds = self.seeds_of(variant) if variant in self.variants else 1
        return f"range over {seeds} seeds" if seeds > 1 else self._interval

    @property
    def bands(self) -> str:
        """What `band` is called in the plural."""
        return "ranges" if self._ranged else "intervals"

    @property
    def reading(self) -> str:
        """How lines and bands of all figures are to be read, one sentence."""
        if not self._ranged:
            opening = "One seed" if self.seeds == 1 else "One seed of a variant at most"
            return (
                f"{opening}: the bands are {100 * self.level:g} % intervals over inputs and say "
                "nothing about how much another seed would differ."
            )
        fewer = [name for name in self.variants if 0 < self.seeds_of(name) < self.seeds]
        gaps = "".join(f", {self.seeds_of(name)} for {name}" for name in fewer)
        alone = ", like a variant with one seed," if self._seed_counts[0] == 1 else ""
        return (
            f"Lines and dots are means over {self.seeds} seeds{gaps and f' ({gaps[2:]})'} and the "
            f"bands run from the smallest to the largest seed; base and aligned exist once and"
            f"{alone} keep the {100 * self.level:g} % interval of their own sample."
        )


def variant_of(subject: str) -> str:
    """Return the variant of a subject's name; `base` and `aligned` are their own."""
    return subject.partition("/seed-")[0]


def over_seeds(
    frame: pd.DataFrame,
    by: Sequence[str],
    value: str = "value",
    low: str = "low",
    high: str = "high",
) -> pd.DataFrame:
    """Mean over the seeds of each variant, with the range over seeds as its band.

    Where there is one seed the row's own interval is kept.

    Args:
        frame: with `subject` or `variant`, the columns `by`, `n`, and the three named.
        by: what a row is about, besides the subject.
        value: column of the numbers.
        low: column of the lower ends.
        high: column of the upper ends.

    Returns:
        Columns `variant`, those of `by`, `value`, `low`, `high`, `n` (the smallest) and `seeds`.
        A variant with a missing number in one seed has none.
    """
    data = frame.copy()
    if "subject" in data.columns:
        data["variant"] = data["subject"].map(variant_of)
    keys = ["variant", *by]
    groups = data.groupby(keys, sort=False, dropna=False)
    numbers = groups[value]
    found = pd.DataFrame(
        {
            "value": numbers.mean(),
            "low": numbers.min(),
            "high": numbers.max(),
            "own_low": groups[low].first(skipna=False),
            "own_high": groups[high].first(skipna=False),
            "n": groups["n"].min().astype(int),
            "seeds": groups.size(),
            "defined": numbers.count(),
        }
    ).reset_index()
    once = found["seeds"] == 1
    found["low"] = found["low"].mask(once, found["own_low"])
    found["high"] = found["high"].mask(once, found["own_high"])
    gaps = ~once & (found["defined"] < found["seeds"])
    found.loc[gaps, ["value", "low", "high"]] = float("nan")
    floats = dict.fromkeys(("value", "low", "high"), float)
    return found[[*keys, *floats, "n", "seeds"]].astype(floats)
