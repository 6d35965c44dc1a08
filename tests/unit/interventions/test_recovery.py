import numpy as np
import pandas as pd
import pytest
from scipy import stats

from layersight.interventions.recovery import RECOVERY_COLUMNS, recovery_table

LAYERS = 4
SIZE = 60


def model(
    share: float, seed: int, sweep: str, start: int, stop: int, connector: str, direction: str
) -> pd.DataFrame:
    """Items of one patched model that gets about `share` of them right; two items a picture."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "variant": "full",
            "seed": 0,
            "direction": direction,
            "sweep": sweep,
            "start": start,
            "stop": stop,
            "connector": connector,
            "benchmark": "kind_image",
            "item_id": [f"item-{index:03d}" for index in range(SIZE)],
            "cluster": [f"picture-{index // 2:03d}" for index in range(SIZE)],
            "score": (rng.random(SIZE) < share).astype(float),
            "logit_margin": rng.normal(4.0 * share - 2.0, 1.0, size=SIZE),
        }
    )


def sweep(direction: str = "tuned_into_base") -> pd.DataFrame:
    target, donor = (0.2, 0.9) if direction == "tuned_into_base" else (0.9, 0.2)
    return pd.concat(
        [
            model(target, 1, "reference", 0, 0, "target", direction),
            model(donor, 2, "reference", 0, LAYERS, "donor", direction),
            model(0.5, 3, "cumulative", 0, 2, "target", direction),
            model(0.6, 4, "cumulative", 0, 2, "donor", direction),
            model(0.3, 5, "sliding", 1, 2, "target", direction),
        ],
        ignore_index=True,
    )


def test_references_recover_exactly_nothing_and_everything() -> None:
    for direction, of_target in (("tuned_into_base", 0.0), ("base_into_tuned", 1.0)):
        table = recovery_table(sweep(direction), resamples=300, seed=0)
        references = table[table["sweep"] == "reference"]
        assert len(references) == 4
        for _, row in references.iterrows():
            expected = of_target if row["connector"] == "target" else 1.0 - of_target
            found = (row["recovery"], row["recovery_low"], row["recovery_high"])
            assert found == (expected, expected, expected)
            assert row["undefined_share"] == 0.0


def test_recovery_is_the_ratio_of_gains_with_scipys_interval() -> None:
    items = sweep().assign(cluster=lambda table: table["item_id"])
    table = recovery_table(items, resamples=4000, seed=0)
    assert tuple(table.columns) == RECOVERY_COLUMNS
    assert len(table) == 5 * 2
    for metric, column in (("accuracy", "score"), ("logit_margin", "logit_margin")):
        base, tuned, hybrid = (
            items[column].to_numpy()[part * SIZE : (part + 1) * SIZE] for part in (0, 1, 2)
        )
        row = table[
            (table["metric"] == metric)
            & (table["sweep"] == "cumulative")
            & (table["connector"] == "target")
        ].iloc[0]
        expected = stats.bootstrap(
            (hybrid, base, tuned),
            lambda h, b, t, axis: (h - b).mean(axis) / (t - b).mean(axis),
            paired=True,
            n_resamples=4000,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert row["recovery"] == pytest.approx(
            (hybrid.mean() - base.mean()) / (tuned.mean() - base.mean())
        )
        assert (row["recovery_low"], row["recovery_high"]) == pytest.approx(
            (expected.low, expected.high), abs=0.03
        )
        means = (row["score"], row["score_base"], row["score_tuned"])
        assert means == pytest.approx((hybrid.mean(), base.mean(), tuned.mean()))
        assert row["score_low"] < row["score"] < row["score_high"]
        assert (row["start"], row["stop"], row["n"]) == (0, 2, SIZE)


def test_base_is_nought_and_tuned_is_one_in_both_directions() -> None:
    forward = sweep()
    # The same models seen from the other side: the donor becomes the target.
    backward = forward.assign(direction="base_into_tuned")
    target = (backward["sweep"] == "reference") & (backward["connector"] == "target")
    donor = (backward["sweep"] == "reference") & (backward["connector"] == "donor")
    backward.loc[target, ["connector", "stop"]] = ["donor", LAYERS]
    backward.loc[donor, ["connector", "stop"]] = ["target", 0]
    table = recovery_table(pd.concat([forward, backward]), resamples=10, seed=0)
    windows = table[table["sweep"] != "reference"]
    first, second = (
        windows[windows["direction"] == name] for name in sorted(set(windows["direction"]))
    )
    columns = ["score_base", "score_tuned", "recovery"]
    np.testing.assert_array_equal(first[columns], second[columns])


def test_items_are_paired_by_name_whatever_the_order_of_rows() -> None:
    items = sweep()
    shuffled = items.sample(frac=1.0, random_state=0)
    pd.testing.assert_frame_equal(
        recovery_table(items, resamples=50, seed=0),
        recovery_table(shuffled, resamples=50, seed=0),
    )


def test_items_of_one_picture_are_drawn_together() -> None:
    items = sweep()
    doubled = pd.concat([items, items.assign(item_id=items["item_id"] + "-again")])
    doubled["cluster"] = doubled["item_id"].str.removesuffix("-again")
    items = items.assign(cluster=items["item_id"])
    single, double = (recovery_table(table, resamples=200, seed=0) for table in (items, doubled))
    np.testing.assert_allclose(
        single[["recovery_low", "recovery_high"]], double[["recovery_low", "recovery_high"]]
    )


def test_recovery_without_a_gain_is_undefined_and_says_so() -> None:
    items = sweep()
    donor = (items["sweep"] == "reference") & (items["connector"] == "donor")
    items.loc[donor, "score"] = 0.0
    table = recovery_table(items, resamples=100, seed=0)
    accuracy = table[table["metric"] == "accuracy"]
    assert accuracy[["recovery", "recovery_low", "recovery_high"]].isna().all(axis=None)
    assert (accuracy["undefined_share"] == 1.0).all()
    assert accuracy["score"].notna().all()
    assert table[table["metric"] == "logit_margin"]["recovery"].notna().all()


def test_sweeps_that_cannot_be_paired_are_refused() -> None:
    items = sweep()
    reference = items["sweep"] == "reference"
    donor = reference & (items["connector"] == "donor")
    with pytest.raises(ValueError, match='connector "donor" has the windows'):
        recovery_table(items[~donor], seed=0)
    with pytest.raises(ValueError, match="one, \\[0, 0\\), is needed"):
        recovery_table(items[donor | ~reference], seed=0)
    with pytest.raises(ValueError, match=r"cumulative \[0, 2\).* item item-000 occurs"):
        recovery_table(pd.concat([items, items.iloc[2 * SIZE : 2 * SIZE + 1]]), seed=0)
    with pytest.raises(ValueError, match=r"sliding \[1, 2\).*59 against 60"):
        recovery_table(items.iloc[:-1], resamples=2, seed=0)
    moved = items.copy()
    moved.loc[moved.index[-1], "cluster"] = "picture-000"
    with pytest.raises(ValueError, match="cluster differs"):
        recovery_table(moved, resamples=2, seed=0)


def test_tables_that_are_not_of_patched_items_are_refused() -> None:
    items = sweep()
    with pytest.raises(ValueError, match="logit_margin"):
        recovery_table(items.drop(columns="logit_margin"), seed=0)
    with pytest.raises(ValueError, match="empty"):
        recovery_table(items.iloc[:0], seed=0)
    with pytest.raises(ValueError, match="missing in 1 rows"):
        items_with_gap = items.copy()
        items_with_gap.loc[3, "logit_margin"] = np.nan
        recovery_table(items_with_gap, seed=0)
    with pytest.raises(ValueError, match="sideways"):
        recovery_table(items.assign(direction="sideways"), seed=0)
    with pytest.raises(ValueError, match="several benchmarks"):
        recovery_table(pd.concat([items, items.assign(benchmark="kind_text")]), seed=0)
