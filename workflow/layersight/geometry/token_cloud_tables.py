"""Token clouds over prompts: means per layer, and what they have to do with the prompt's loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from layersight.seeds import derive_seed
from layersight.statistics import BLOCK_ENTRIES, percentile_ends, resampled_means
from layersight.storage.tables import read_table, write_table

Float64s = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# One row per prompt, layer, level of shuffling and number, see `token_clouds.CloudValue`. `n`
# counts tokens; `loss` is the mean cross-entropy of the prompt as it ran, in nats a token.
TOKEN_CLOUDS = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("item_id", pa.string()),
        ("layer", pa.int32()),
        ("shuffle", pa.int32()),
        ("blocks", pa.int32()),
        ("first_token", pa.bool_()),
        ("loss", pa.float64()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("n", pa.int32()),
        ("value", pa.float64()),
    ]
)

# `value` is the mean over `n` prompts, which have `tokens` usable tokens on average.
TOKEN_CLOUD_MEANS = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("layer", pa.int32()),
        ("shuffle", pa.int32()),
        ("first_token", pa.bool_()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("n", pa.int32()),
        ("tokens", pa.float64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)

# `value` is a correlation over `n` prompts and `p` the probability of one as strong without any.
TOKEN_CLOUD_LOSS = pa.schema(
    [
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("layer", pa.int32()),
        ("shuffle", pa.int32()),
        ("first_token", pa.bool_()),
        ("metric", pa.string()),
        ("k", pa.int32()),
        ("correlation", pa.string()),
        ("n", pa.int32()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("p", pa.float64()),
    ]
)

CORRELATIONS = ("pearson_log", "spearman")
"""Pearson's of the logarithm of the dimension with the loss, and Spearman's."""
FEWEST_PROMPTS = 4
"""Prompts that a correlation is computed from, at least."""

_KEYS = ["subject", "probe", "shuffle", "first_token", "layer", "metric", "k"]


def token_cloud_means(
    clouds: pd.DataFrame, *, resamples: int, level: float, seed: int
) -> pd.DataFrame:
    """Average every number over prompts.

    Args:
        clouds: the columns of `TOKEN_CLOUDS`.
        resamples: bootstrap draws of prompts behind each interval.
        level: coverage.
        seed: of the draws, which are the same for every layer and number.

    Returns:
        The columns of `TOKEN_CLOUD_MEANS`; NaN where no prompt has the number.
    """
    numbers, rows = _numbers(clouds)
    numbers = numbers.assign(n=0, value=np.nan, low=np.nan, high=np.nan)
    for chosen, taken in _alike(rows[clouds["value"].notna().to_numpy()]):
        values = clouds["value"].to_numpy()[taken]
        means = resampled_means(
            list(values),
            resamples=resamples,
            rng=np.random.default_rng(derive_seed(seed, "token_clouds/means")),
        )
        ends = [percentile_ends(column, level=level) for column in means.T]
        numbers.loc[chosen, "n"] = values.shape[1]
        numbers.loc[chosen, "value"] = values.mean(axis=1)
        numbers.loc[chosen, ["low", "high"]] = ends
    return numbers[TOKEN_CLOUD_MEANS.names]


def loss_correlations(
    clouds: pd.DataFrame, *, resamples: int, level: float, seed: int
) -> pd.DataFrame:
    """Correlate the intrinsic dimension with the loss over prompts (Viswanathan et al. 2025).

    Args:
        clouds: the columns of `TOKEN_CLOUDS`.
        resamples: bootstrap draws of prompts behind each interval.
        level: coverage.
        seed: of the draws, which are the same for every layer and scale.

    Returns:
        The columns of `TOKEN_CLOUD_LOSS`, one row per layer, level of shuffling, scale of GRIDE and
        correlation; NaN for fewer than `FEWEST_PROMPTS` prompts, or where all have one dimension
        or one loss.
    """
    gride = clouds[clouds["metric"] == "gride"]
    numbers, rows = _numbers(gride)
    numbers = numbers.assign(n=0, value=np.nan, low=np.nan, high=np.nan, p=np.nan)
    tables = [numbers.assign(correlation=name) for name in CORRELATIONS]
    for chosen, taken in _alike(rows[gride[["value", "loss"]].notna().all(axis=1).to_numpy()]):
        dimension, loss = gride["value"].to_numpy()[taken], gride["loss"].to_numpy()[taken]
        for table, name in zip(tables, CORRELATIONS, strict=True):
            found = correlations(
                np.log(dimension) if name == "pearson_log" else dimension,
                loss,
                ranks=name == "spearman",
                resamples=resamples,
                level=level,
                rng=np.random.default_rng(derive_seed(seed, "token_clouds/loss")),
            )
            table.loc[chosen, "n"] = dimension.shape[1]
            table.loc[chosen, ["value", "low", "high", "p"]] = found
    return pd.concat(tables).sort_index(kind="stable")[TOKEN_CLOUD_LOSS.names]


def correlations(
    x: Float64s,
    y: Float64s,
    *,
    ranks: bool,
    resamples: int,
    level: float,
    rng: np.random.Generator,
) -> Float64s:
    """Pearson's or Spearman's correlations, percentile bootstrap intervals and p-values.

    Args:
        x, y: `(m, n)`, m samples of n pairs.
        ranks: Spearman's, the correlation of the ranks (the mean rank for equal values).
        resamples: bootstrap draws of pairs, the same for all samples. Those in which `x` or `y` is
            constant have no correlation and are left out.
        level: coverage.
        rng: source of the draws.

    Returns:
        `(m, 4)`: the correlation, both ends of its interval, and the two-sided p-value of
        `scipy.stats.pearsonr` or `spearmanr`; all NaN for fewer than `FEWEST_PROMPTS` pairs or a
        constant `x` or `y`.

    Raises:
        ValueError: the two differ in shape.
    """
    from scipy import stats

    if x.shape != y.shape or x.ndim != 2:
        raise ValueError(f"x and y have the shapes {x.shape} and {y.shape}; both must be (m, n).")
    m, n = x.shape
    found = np.full((m, 4), np.nan)
    if n < FEWEST_PROMPTS:
        return found
    varies = (np.ptp(x, axis=1) > 0) & (np.ptp(y, axis=1) > 0)
    drawn = rng.integers(0, n, size=(resamples, n))
    block = max(1, BLOCK_ENTRIES // drawn.size)
    for start in range(0, m, block):
        chosen = start + np.flatnonzero(varies[start : start + block])
        if not chosen.size:
            continue
        a, b = x[chosen], y[chosen]
        again_a, again_b = a[:, drawn], b[:, drawn]
        vary = (np.ptp(again_a, axis=2) > 0) & (np.ptp(again_b, axis=2) > 0)
        if ranks:
            a, b, again_a, again_b = (
                stats.rankdata(values, axis=-1) for values in (a, b, again_a, again_b)
            )
        # Spearman's is Pearson's of the ranks, with the same distribution behind its p-value.
        test = stats.pearsonr(a, b, axis=1)
        found[chosen, 0], found[chosen, 3] = test.statistic, test.pvalue
        for row, index in enumerate(chosen):
            if vary[row].any():
                resampled = _row_correlations(again_a[row, vary[row]], again_b[row, vary[row]])
                found[index, 1:3] = percentile_ends(resampled, level=level)
    return found


def summarise_token_clouds(
    *, tables: Sequence[Path], means: Path, losses: Path, resamples: int, level: float, seed: int
) -> None:
    """Write the means over prompts and the correlations with the loss, of all subjects.

    Args:
        tables: tables with the schema `TOKEN_CLOUDS`, each of other subjects; at least one.
        means: table with the schema `TOKEN_CLOUD_MEANS`.
        losses: table with the schema `TOKEN_CLOUD_LOSS`.
        resamples: bootstrap draws behind each interval.
        level: coverage.
        seed: of the draws.

    Raises:
        DataError: a table is missing or not of its schema.
    """
    draws: dict[str, Any] = {"resamples": resamples, "level": level, "seed": seed}
    found = []
    for path in tables:  # One at a time: together they may be larger than memory.
        clouds = read_table(path, TOKEN_CLOUDS).to_pandas()
        found.append((token_cloud_means(clouds, **draws), loss_correlations(clouds, **draws)))
    write_table(means, pd.concat([mean for mean, _ in found]), TOKEN_CLOUD_MEANS)
    write_table(losses, pd.concat([loss for _, loss in found]), TOKEN_CLOUD_LOSS)


def _row_correlations(a: Float64s, b: Float64s) -> Float64s:
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    products: Float64s = np.einsum("ij,ij->i", a, b)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.clip(products / norms, -1.0, 1.0)


def _numbers(clouds: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """One row per number that prompts are averaged over, and the row's index of every value."""
    groups = clouds.groupby(_KEYS, sort=False)
    numbers = groups["n"].mean().rename("tokens").reset_index()
    positions = groups.ngroup().set_axis(range(len(clouds)))
    return numbers, positions


def _alike(rows: pd.Series) -> Iterator[tuple[Ints, Ints]]:
    """Rows with equally many values together: their indices, and `(rows, n)` values' positions."""
    order = np.argsort(rows.to_numpy(), kind="stable")
    taken = rows.index.to_numpy()[order]
    found, starts, counts = np.unique(rows.to_numpy()[order], return_index=True, return_counts=True)
    for count in np.unique(counts):
        same = counts == count
        yield found[same], taken[starts[same][:, None] + np.arange(count)]
