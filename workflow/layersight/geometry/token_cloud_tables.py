"""Token clouds over prompts: means per layer, and what they have to do with the prompt's loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from layersight.seeds import derive_seed
from layersight.statistics import Interval, bootstrap_mean, percentile_ends
from layersight.storage.tables import read_table, write_table

Float64s = npt.NDArray[np.float64]

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
    rows = []
    for key, group in clouds.groupby(_KEYS, sort=False):
        defined = group[group["value"].notna()]
        interval = Interval(np.nan, np.nan, np.nan)
        if len(defined):
            interval = bootstrap_mean(
                defined["value"].to_numpy(),
                resamples=resamples,
                level=level,
                rng=np.random.default_rng(derive_seed(seed, "token_clouds/means")),
            )
        rows.append(
            dict(zip(_KEYS, key, strict=True))
            | {"n": len(defined), "tokens": float(group["n"].mean()), **_ends(interval)}
        )
    return pd.DataFrame(rows, columns=TOKEN_CLOUD_MEANS.names)


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
    rows = []
    for key, group in clouds[clouds["metric"] == "gride"].groupby(_KEYS, sort=False):
        defined = group[group["value"].notna() & group["loss"].notna()]
        dimension, loss = defined["value"].to_numpy(), defined["loss"].to_numpy()
        for name in CORRELATIONS:
            interval, p = correlation(
                np.log(dimension) if name == "pearson_log" else dimension,
                loss,
                ranks=name == "spearman",
                resamples=resamples,
                level=level,
                rng=np.random.default_rng(derive_seed(seed, "token_clouds/loss")),
            )
            rows.append(
                dict(zip(_KEYS, key, strict=True))
                | {"correlation": name, "n": len(defined), **_ends(interval), "p": p}
            )
    return pd.DataFrame(rows, columns=TOKEN_CLOUD_LOSS.names)


def correlation(
    x: Float64s,
    y: Float64s,
    *,
    ranks: bool,
    resamples: int,
    level: float,
    rng: np.random.Generator,
) -> tuple[Interval, float]:
    """Pearson's or Spearman's correlation, its percentile bootstrap interval and its p-value.

    Args:
        x, y: `(n,)`, paired by position.
        ranks: Spearman's, the correlation of the ranks (the mean rank for equal values).
        resamples: bootstrap draws of pairs. Those in which `x` or `y` is constant have no
            correlation and are left out.
        level: coverage.
        rng: source of the draws.

    Returns:
        The correlation with its interval, and the two-sided p-value of `scipy.stats.pearsonr` or
        `spearmanr`; all NaN for fewer than `FEWEST_PROMPTS` pairs or a constant `x` or `y`.

    Raises:
        ValueError: the two differ in length.
    """
    from scipy import stats

    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"x and y have the shapes {x.shape} and {y.shape}; both must be (n,).")
    n = len(x)
    if n < FEWEST_PROMPTS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Interval(np.nan, np.nan, np.nan), float("nan")
    found = stats.spearmanr(x, y) if ranks else stats.pearsonr(x, y)
    drawn = rng.integers(0, n, size=(resamples, n))
    a, b = x[drawn], y[drawn]
    varies = (np.ptp(a, axis=1) > 0) & (np.ptp(b, axis=1) > 0)
    if ranks:
        a, b = stats.rankdata(a, axis=1), stats.rankdata(b, axis=1)
    low = high = float("nan")
    if varies.any():
        low, high = percentile_ends(_row_correlations(a[varies], b[varies]), level=level)
    return Interval(float(found.statistic), low, high), float(found.pvalue)


def summarise_token_clouds(
    *, tables: Sequence[Path], means: Path, losses: Path, resamples: int, level: float, seed: int
) -> None:
    """Write the means over prompts and the correlations with the loss, of all subjects.

    Args:
        tables: tables with the schema `TOKEN_CLOUDS`.
        means: table with the schema `TOKEN_CLOUD_MEANS`.
        losses: table with the schema `TOKEN_CLOUD_LOSS`.
        resamples: bootstrap draws behind each interval.
        level: coverage.
        seed: of the draws.

    Raises:
        DataError: a table is missing or not of its schema.
    """
    clouds = pd.concat(
        [read_table(path, TOKEN_CLOUDS).to_pandas() for path in tables], ignore_index=True
    )
    draws: dict[str, Any] = {"resamples": resamples, "level": level, "seed": seed}
    write_table(means, token_cloud_means(clouds, **draws), TOKEN_CLOUD_MEANS)
    write_table(losses, loss_correlations(clouds, **draws), TOKEN_CLOUD_LOSS)


def _row_correlations(a: Float64s, b: Float64s) -> Float64s:
    a = a - a.mean(axis=1, keepdims=True)
    b = b - b.mean(axis=1, keepdims=True)
    products: Float64s = np.einsum("ij,ij->i", a, b)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.clip(products / norms, -1.0, 1.0)


def _ends(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}
