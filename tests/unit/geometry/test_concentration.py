import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from layersight.errors import DataError
from layersight.geometry.concentration import (
    CONCENTRATION,
    concentration,
    concentration_over_items,
    concentration_table,
    measure_concentration,
    over_seeds,
)
from layersight.storage.tables import read_table, write_table


def test_the_centre_is_that_of_mass():
    change = np.random.default_rng(0).random(30)
    found = concentration(change, first=1)
    assert found.centre == pytest.approx(ndimage.center_of_mass(change)[0] + 1)


def test_windows_of_known_profiles():
    assert concentration(np.ones(30)).stop == 15
    spike = np.zeros(12)
    spike[7] = 3
    found = concentration(spike)
    assert (found.centre, found.start, found.stop, found.held) == (7, 7, 8, 1)
    # [2, 5) holds 8 of 13, and no two neighbours hold half.
    found = concentration(np.array([1, 0, 2, 3, 3, 1, 2, 1.0]), first=1)
    assert (found.start, found.stop, found.held) == (3, 6, 8 / 13)
    assert concentration(np.ones(10), share=1).stop == 10
    assert concentration(np.full(10, 0.1)).stop == 5  # though ten times 0.1 are not quite 1


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_no_narrower_window_holds_the_share_and_no_equal_one_more(share):
    for seed in range(20):
        change = np.random.default_rng(seed).exponential(size=17)
        found = concentration(change, share=share)
        held = {
            (a, b): change[a:b].sum() / change.sum() for a in range(17) for b in range(a + 1, 18)
        }
        width = min(b - a for (a, b), part in held.items() if part >= share)
        best = max((part, (a, b)) for (a, b), part in held.items() if b - a == width)
        assert (found.start, found.stop) == best[1]
        assert found.held == pytest.approx(best[0])


def test_undefined_layers_count_as_none_and_no_change_has_no_place():
    with_gap = concentration(np.array([np.nan, 1, 2, np.nan]))
    assert with_gap == concentration(np.array([0, 1, 2, 0.0]))
    assert concentration(np.zeros(4)) is None
    assert concentration(np.full(4, np.nan)) is None


@pytest.mark.parametrize("wrong", [[-1.0, 2], [np.inf, 1], [[1.0, 2]]])
def test_changes_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="none negative or infinite"):
        concentration(np.array(wrong))


def test_the_share_must_be_one():
    for share in (0, 1.1):
        with pytest.raises(ValueError, match="share"):
            concentration(np.ones(3), share=share)


def test_the_interval_over_seeds_is_students():
    values = np.array([10.2, 11.0, 9.1, 10.4])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
    found = over_seeds(values, 0.9)
    assert found == pytest.approx((values.mean(), expected.low, expected.high))
    one = over_seeds(values[:1])
    assert one[0] == 10.2 and np.isnan(one[1:]).all()


def test_the_interval_over_items_is_that_of_a_ratio_of_means():
    rng = np.random.default_rng(0)
    changes = rng.exponential(size=(80, 6)) * np.array([1, 1, 4, 2, 1, 1])
    found = concentration_over_items(
        changes, first=1, resamples=4000, level=0.9, rng=np.random.default_rng(1)
    )
    expected = concentration(changes.mean(axis=0), first=1)
    assert found["centre"].value == pytest.approx(expected.centre)
    assert found["window_width"].value == expected.stop - expected.start
    resampled = stats.bootstrap(
        (changes @ np.arange(1, 7), changes.sum(axis=1)),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        n_resamples=4000, paired=True, confidence_level=0.9, method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    # Two sets of 4,000 draws: the ends agree to a few hundredths of a layer.
    assert (found["centre"].low, found["centre"].high) == pytest.approx(tuple(resampled), abs=0.03)
    assert found["window_start"].low <= expected.start <= found["window_start"].high


def test_an_item_that_is_undefined_at_a_layer_does_not_count_there():
    changes = np.array([[1.0, np.nan], [1, 4], [1, 6]])
    found = concentration_over_items(
        changes, resamples=200, level=0.9, rng=np.random.default_rng(0)
    )
    assert found["centre"].value == pytest.approx(5 / 6)
    nothing = concentration_over_items(
        0 * changes, resamples=200, level=0.9, rng=np.random.default_rng(0)
    )
    assert all(np.isnan([one.value, one.low, one.high]).all() for one in nothing.values())


def change_frame():
    """Two seeds of `full`, whose change sits at layers 3 and 5; one of `lora`, without change."""
    rows = []
    for subject, place in [("full/seed-0", 3), ("full/seed-1", 5), ("lora/seed-0", None)]:
        for layer in range(8):
            # Layer 0 is before the blocks and must not count.
            moved = 1.0 if layer == place else 0.9 if layer == 0 else 0.0
            for metric, value in [
                ("overlap", 1 - moved), ("cka", 1 - moved + 1e-17), ("relative_norm", moved),
            ]:  # fmt: skip
                rows.append(
                    {
                        "subject": subject,
                        "reference": "aligned",
                        "probe": "pair_images",
                        "stream": "last",
                        "layer": layer,
                        "metric": metric,
                        "k": 3,
                        "n": 9,
                        "value": value,
                        "low": value,
                        "high": value,
                    }
                )
    return pd.DataFrame(rows)


def weights_frame():
    rows = [
        {"subject": f"full/seed-{seed}", "block": block, "matrix": matrix,
         "relative_change": float(block == 2 + seed)}
        for seed in (0, 1) for block in range(6) for matrix in ("all", "mlp.up_proj.weight")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def row(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_the_table_says_where_each_variant_changes_over_its_seeds():
    table = concentration_table(change_frame(), weights_frame(), level=0.95)
    assert list(table.columns) == CONCENTRATION.names
    for metric in ("overlap", "cka", "relative_norm"):
        centre = row(table, variant="full", metric=metric, measure="centre")
        assert (centre["value"], centre["smallest"], centre["largest"]) == (4, 3, 5)
        expected = stats.ttest_1samp([3.0, 5.0], 0).confidence_interval(0.95)
        assert (centre["low"], centre["high"]) == pytest.approx(tuple(expected))
        assert (centre["seeds"], centre["positions"], centre["unit"]) == (2, 7, "layer")
        assert row(table, variant="full", metric=metric, measure="window_start")["value"] == 4
        assert row(table, variant="full", metric=metric, measure="window_stop")["value"] == 5
        assert row(table, variant="full", metric=metric, measure="window_width")["value"] == 1
        assert np.isnan(row(table, variant="lora", metric=metric, measure="centre")["value"])
    block = row(table, unit="block", metric="mlp.up_proj.weight", measure="centre")
    assert (block["value"], block["positions"], block["probe"]) == (2.5, 6, "")


def test_a_profile_with_a_gap_is_refused():
    frame = change_frame()
    with pytest.raises(DataError, match="full/seed-0, overlap: the layers"):
        concentration_table(frame[frame["layer"] != 4], None, level=0.95)
    with pytest.raises(DataError, match="the layers"):
        concentration_table(pd.concat([frame, frame]), None, level=0.95)


def test_tables_become_a_file(tmp_path):
    change_frame().to_parquet(tmp_path / "change.parquet")
    measure_concentration(
        change=tmp_path / "change.parquet", weights=None, out=tmp_path / "out.parquet", level=0.95
    )
    table = read_table(tmp_path / "out.parquet", CONCENTRATION).to_pandas()
    assert set(table["unit"]) == {"layer"}
    empty = change_frame()[:0]
    write_table(
        tmp_path / "none.parquet", concentration_table(empty, None, level=0.9), CONCENTRATION
    )
