import numpy as np
import pandas as pd
import pytest
from scipy import stats

from layersight.geometry.token_cloud_tables import (
    TOKEN_CLOUD_LOSS,
    TOKEN_CLOUD_MEANS,
    TOKEN_CLOUDS,
    correlations,
    loss_correlations,
    summarise_token_clouds,
    token_cloud_means,
)
from layersight.storage.tables import read_table, write_table

PROMPTS = 40


def paired(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(PROMPTS)
    return x, 0.6 * x + rng.standard_normal(PROMPTS)


def correlation(x, y, **told):
    """The one row of `correlations` of two arrays `(n,)`: value, low, high and p."""
    return correlations(x[None], y[None], **told)[0]


def draws(seed=0, resamples=300):
    return {"resamples": resamples, "level": 0.9, "rng": np.random.default_rng(seed)}


@pytest.mark.parametrize("ranks", [False, True])
def test_correlations_intervals_and_p_values_are_those_of_scipy(ranks):
    x, y = paired()
    value, low, high, p = correlation(x, y, ranks=ranks, **draws())
    expected = stats.spearmanr(x, y) if ranks else stats.pearsonr(x, y)
    assert (value, p) == pytest.approx((expected.statistic, expected.pvalue))
    resampled = stats.bootstrap(
        (x, y), lambda a, b: (stats.spearmanr if ranks else stats.pearsonr)(a, b).statistic,
        n_resamples=300, paired=True, vectorized=False, confidence_level=0.9,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert (low, high) == pytest.approx((resampled.low, resampled.high), rel=1e-9)


def test_ranks_share_their_mean_where_values_are_equal():
    x, y = paired()
    x = np.round(x)
    value, _, _, p = correlation(x, y, ranks=True, **draws())
    expected = stats.spearmanr(x, y)
    assert (value, p) == pytest.approx((expected.statistic, expected.pvalue))


def test_constants_and_few_prompts_have_no_correlation():
    x, y = paired()
    for a, b in [(np.ones(PROMPTS), y), (x, np.ones(PROMPTS)), (x[:3], y[:3])]:
        assert np.isnan(correlation(a, b, ranks=False, **draws())).all()
    # Resamples that drew one prompt alone are left out.
    assert np.isfinite(correlation(x[:4], y[:4], ranks=False, **draws(resamples=2000))).all()


def test_correlations_of_many_samples_are_those_of_each():
    x = np.stack([paired(seed)[0] for seed in range(5)])
    y = np.stack([paired(seed)[1] for seed in range(5)])
    x[3] = 1.0
    together = correlations(x, y, ranks=False, **draws())
    apart = [correlation(a, b, ranks=False, **draws()) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(together, apart, rtol=1e-12)
    assert np.isnan(together[3]).all() and np.isfinite(np.delete(together, 3, axis=0)).all()


def clouds():
    rows = []
    for prompt in range(PROMPTS):
        loss, noise = (values[prompt] for values in paired(3))
        for layer in (0, 1):
            key = {
                "subject": "base", "probe": "texts", "item_id": f"i{prompt}", "layer": layer,
                "shuffle": 0, "blocks": 1, "first_token": False, "loss": loss, "n": 100 + prompt,
            }  # fmt: skip
            rows += [
                {**key, "metric": "gride", "k": 2, "value": np.exp(2 * loss if layer else noise)},
                {**key, "metric": "overlap", "k": 2, "value": np.nan if layer == 0 else prompt / 9},
            ]
    return pd.DataFrame(rows)


def test_the_dimension_correlates_with_the_loss_by_its_logarithm():
    table = loss_correlations(clouds(), resamples=100, level=0.95, seed=1)
    assert list(table.columns) == TOKEN_CLOUD_LOSS.names
    assert len(table) == 2 * 2 and (table["n"] == PROMPTS).all()
    exact = table[table["layer"] == 1]
    assert exact["value"].to_numpy() == pytest.approx([1, 1])
    assert exact["p"].max() < 1e-12
    loss, noise = paired(3)
    other = table[table["layer"] == 0].set_index("correlation")
    assert other.loc["pearson_log", "value"] == pytest.approx(stats.pearsonr(noise, loss).statistic)
    assert other.loc["spearman", "value"] == pytest.approx(stats.spearmanr(noise, loss).statistic)
    assert (other["low"] < other["value"]).all() and (other["value"] < other["high"]).all()


def test_means_are_over_the_prompts_that_have_the_number():
    frame = clouds()
    frame.loc[(frame["metric"] == "overlap") & (frame["item_id"] == "i0"), "value"] = np.nan
    table = token_cloud_means(frame, resamples=100, level=0.95, seed=1).set_index(
        ["layer", "metric"]
    )
    assert table.loc[(1, "overlap"), "value"] == pytest.approx(np.arange(1, PROMPTS).mean() / 9)
    assert table.loc[(1, "overlap"), "n"] == PROMPTS - 1
    assert table.loc[(1, "gride"), "tokens"] == 119.5
    assert table.loc[(0, "overlap"), "n"] == 0
    assert np.isnan(table.loc[(0, "overlap"), ["value", "low", "high"]].to_numpy(float)).all()


def test_tables_become_files(tmp_path):
    write_table(tmp_path / "a.parquet", clouds(), TOKEN_CLOUDS)
    write_table(tmp_path / "b.parquet", clouds().assign(subject="full/seed-0"), TOKEN_CLOUDS)
    summarise_token_clouds(
        tables=[tmp_path / "a.parquet", tmp_path / "b.parquet"], means=tmp_path / "means.parquet",
        losses=tmp_path / "losses.parquet", resamples=100, level=0.95, seed=1,
    )  # fmt: skip
    means = read_table(tmp_path / "means.parquet", TOKEN_CLOUD_MEANS).to_pandas()
    losses = read_table(tmp_path / "losses.parquet", TOKEN_CLOUD_LOSS).to_pandas()
    assert set(means["subject"]) == set(losses["subject"]) == {"base", "full/seed-0"}
    halves = [losses[losses["subject"] == name].drop(columns="subject") for name in
              ("base", "full/seed-0")]  # fmt: skip
    pd.testing.assert_frame_equal(*(half.reset_index(drop=True) for half in halves))
