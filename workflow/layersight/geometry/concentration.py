"""Where in depth a change concentrates: centre of mass, and the smallest window with half of it.

The tables of change give a number per layer (representations) or per block (weights). Here such a
profile becomes a place: one number for "where", one window [a, b) for "between which layers".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from layersight.errors import DataError
from layersight.statistics import Interval, percentile_ends
from layersight.storage.tables import read_table, write_table

SIMILARITIES = ("overlap", "cka")
"""Metrics of the table `change` that are 1 where nothing changed; their change is 1 - value."""
MEASURES = ("centre", "window_start", "window_stop", "window_width")

# `unit` is "layer" (representations) or "block" (weights), and what `value` counts; `positions`
# how many of them there are, so that an even change has half of them as its window. Of weights
# `metric` names the matrix, "all" the whole block. `value` is the mean over `seeds`, `low` and
# `high` its interval over seeds (NaN for one seed), `smallest` and `largest` their range.
CONCENTRATION = pa.schema(
    [
        ("variant", pa.string()),
        ("unit", pa.string()),
        ("reference", pa.string()),
        ("probe", pa.string()),
        ("stream", pa.string()),
        ("metric", pa.string()),
        ("measure", pa.string()),
        ("seeds", pa.int32()),
        ("positions", pa.int32()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("smallest", pa.float64()),
        ("largest", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Concentration:
    """Where one profile of change lies.

    Attributes:
        centre: centre of mass, sum_i position_i change_i / sum_i change_i, in positions.
        start, stop: the smallest window [start, stop) of positions that holds the share.
        held: share of the change that the window holds.
    """

    centre: float
    start: int
    stop: int
    held: float


def concentration(
    change: npt.NDArray[np.floating[Any]], *, first: int = 0, share: float = 0.5
) -> Concentration | None:
    """Centre of mass of a profile, and the smallest run of positions with a share of it.

    Of several windows of the smallest width, the one that holds most is taken, then the first.

    Args:
        change: `(n,)`, the change at consecutive positions, none negative. NaN, where change is
            undefined, counts as none.
        first: the position of the first number.
        share: of the total that the window holds, above 0 and at most 1.

    Returns:
        The place; None where nothing changed.

    Raises:
        ValueError: a negative or infinite change, an array that is not `(n,)`, or `share` out of
            range.
    """
    values = np.nan_to_num(np.asarray(change, dtype=np.float64), nan=0.0, posinf=np.inf)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("change must be (n,) numbers, none negative or infinite.")
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must lie in (0, 1].")
    total = float(values.sum())
    if total == 0:
        return None
    centre = first + float(np.arange(len(values)) @ values) / total
    sums = np.concatenate([[0.0], np.cumsum(values)]) / total
    for width in range(1, len(values) + 1):
        held = sums[width:] - sums[:-width]
        # Half of an even profile is half in spite of rounding.
        if held.max() >= share - 1e-12:
            break
    start = int(np.argmax(held >= held.max() - 1e-12))
    return Concentration(centre, first + start, first + start + width, float(held[start]))


def concentration_over_items(
    changes: npt.NDArray[np.floating[Any]],
    *,
    first: int = 0,
    share: float = 0.5,
    resamples: int,
    level: float,
    rng: np.random.Generator,
) -> dict[str, Interval]:
    """Place of the mean profile over items, with percentile bootstrap intervals over items.

    For one seed, where nothing can be said over seeds: how far the items decide the place.

    Args:
        changes: `(n, positions)`, the change of every item at consecutive positions, none negative;
            NaN where an item has none.
        first: the first position.
        share: see `concentration`.
        resamples: bootstrap draws of items. Those in which nothing changed are left out.
        level: coverage.
        rng: source of the draws.

    Returns:
        An interval for each of `MEASURES`; NaN where nothing changed.

    Raises:
        ValueError: as `concentration`, or an array that is not `(n, positions)`.
    """
    values = np.asarray(changes, dtype=np.float64)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"changes must have shape (n, positions), not {values.shape}.")
    defined = ~np.isnan(values)
    counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    counts = np.concatenate([np.ones((1, len(values)), dtype=counts.dtype), counts])
    drawn = counts @ defined
    profiles = np.divide(
        counts @ np.where(defined, values, 0.0),
        drawn,
        out=np.zeros(drawn.shape),
        where=drawn > 0,
    )
    places = [_measures(concentration(one, first=first, share=share)) for one in profiles]
    found = {}
    for measure in MEASURES:
        value, *others = (place[measure] for place in places)
        kept = [other for other in others if not np.isnan(other)]
        ends = (float("nan"), float("nan"))
        if kept and not np.isnan(value):
            ends = percentile_ends(kept, level=level)
        found[measure] = Interval(value, *ends)
    return found


def over_seeds(values: npt.NDArray[np.float64], level: float = 0.95) -> tuple[float, float, float]:
    """Mean over seeds and its Student t interval, mean -/+ t s / sqrt(n) with n - 1 degrees.

    Args:
        values: `(n,)`, one number a seed.
        level: coverage.

    Returns:
        Mean, low, high; the ends are NaN for one seed.

    Raises:
        ValueError: no value.
    """
    from scipy import stats

    n = len(values)
    if n == 0:
        raise ValueError("values is empty; at least one seed is needed.")
    mean = float(values.mean())
    if n == 1:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.5 + level / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def concentration_table(
    change: pd.DataFrame, weights: pd.DataFrame | None, *, level: float, share: float = 0.5
) -> pd.DataFrame:
    """Where the change of every variant concentrates, over its seeds.

    Representations are read from layer 1 on: layer 0 lies before all blocks, and what changes there
    is the connector. A similarity s counts as the change 1 - s, not below 0.

    Args:
        change: the table `change` (columns of `geometry.measure.CHANGE_COLUMNS`).
        weights: the table of matrices (`tuning.matrix_change.MATRIX_CHANGE`); None leaves weights
            out.
        level: coverage of the intervals over seeds.
        share: of the change that the window holds.

    Returns:
        The columns of `CONCENTRATION`, four rows (`MEASURES`) for every profile; NaN where a seed
        has no change at all.

    Raises:
        DataError: a profile with two numbers for one position, or with a gap.
    """
    rows = []
    for unit, keys, profiles in _profiles(change, weights):
        for key, group in profiles.groupby(["variant", *keys], sort=False):
            places = [
                _place(seed, part, unit, share)
                for seed, part in group.groupby("subject", sort=False)
            ]
            for measure in MEASURES:
                values = np.array([place[measure] for place in places])
                value, low, high = over_seeds(values, level)
                rows.append(
                    {"reference": "", "probe": "", "stream": ""}
                    | dict(zip(["variant", *keys], key, strict=True))
                    | {
                        "unit": unit,
                        "measure": measure,
                        "seeds": len(values),
                        "positions": int(group["position"].nunique()),
                        "value": value,
                        "low": low,
                        "high": high,
                        "smallest": float(values.min()),
                        "largest": float(values.max()),
                    }
                )
    return pd.DataFrame(rows, columns=CONCENTRATION.names)


def measure_concentration(
    *, change: Path, weights: Path | None, out: Path, level: float, share: float = 0.5
) -> None:
    """Write where the change of all variants concentrates.

    Args:
        change: the table `change` of all tuned subjects.
        weights: the table of matrices of all of them; None leaves weights out.
        out: table with the schema `CONCENTRATION`.
        level: coverage of the intervals over seeds.
        share: of the change that the window holds.

    Raises:
        DataError: a table is missing, or not what it should be.
    """
    matrices = None if weights is None else read_table(weights).to_pandas()
    frame = concentration_table(read_table(change).to_pandas(), matrices, level=level, share=share)
    write_table(out, frame, CONCENTRATION)


def _profiles(
    change: pd.DataFrame, weights: pd.DataFrame | None
) -> Iterator[tuple[str, list[str], pd.DataFrame]]:
    """Yield unit, what tells profiles apart, and a frame with `position` and `change`."""
    similar = change["metric"].isin(SIMILARITIES)
    layers = change.assign(
        variant=_variants(change),
        position=change["layer"],
        change=change["value"].where(~similar, (1 - change["value"]).clip(lower=0)),
    )
    yield "layer", ["reference", "probe", "stream", "metric"], layers[layers["position"] > 0]
    if weights is not None:
        yield (
            "block",
            ["metric"],
            weights.assign(
                variant=_variants(weights),
                position=weights["block"],
                metric=weights["matrix"],
                change=weights["relative_change"],
            ),
        )


def _variants(table: pd.DataFrame) -> list[str]:
    """Name the variant of every subject: what stands before "/seed-"."""
    return [subject.partition("/seed-")[0] for subject in table["subject"]]


def _place(subject: Any, part: pd.DataFrame, unit: str, share: float) -> dict[str, float]:
    profile = part.sort_values("position")
    positions = profile["position"].to_numpy()
    if (np.diff(positions) != 1).any():
        raise DataError(
            f"{subject}, {profile['metric'].iloc[0]}: the {unit}s {positions.tolist()} are not "
            "each there once, without a gap"
        )
    change = profile["change"].to_numpy()
    return _measures(concentration(change, first=int(positions[0]), share=share))


def _measures(found: Concentration | None) -> dict[str, float]:
    if found is None:
        return dict.fromkeys(MEASURES, float("nan"))
    values = (found.centre, found.start, found.stop, found.stop - found.start)
    return {name: float(value) for name, value in zip(MEASURES, values, strict=True)}
