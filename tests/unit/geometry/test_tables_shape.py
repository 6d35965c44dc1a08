import numpy as np
import pytest
from tests.unit.geometry.five_clouds import (
    N,
    gaussian,
    one_massive_dimension,
    perturbed,
    with_duplicates,
)

from layersight.geometry.graph import neighbour_graph
from layersight.geometry.measure import VectorsError
from layersight.geometry.modality import modality_gap
from layersight.geometry.spectrum import effective_rank
from layersight.geometry.svcca import svcca
from layersight.geometry.tables_shape import (
    MASSIVE_TABLE_COLUMNS,
    PAIR_COLUMNS,
    SPECTRUM_COLUMNS,
    pair_table,
    spectrum_tables,
)

IDS = np.array([f"item-{i:03d}" for i in range(N)])


def stored(clouds, order=None):
    def read(layer, stream):
        assert stream == "last"
        x = clouds[layer].astype(np.float32)
        ids = IDS[: len(x)]
        return (ids, x) if order is None else (ids[order], x[order])

    return read


def spectra_of(clouds):
    return spectrum_tables(
        stored(clouds), subject="base", probe="concepts", streams=["last"],
        layers=range(len(clouds)), seed=1, resamples=5, ratio=500,
    )  # fmt: skip


def graphs_of(clouds, metric, order=None):
    read = stored(clouds, order)
    return lambda layer, stream: neighbour_graph(*read(layer, stream), 128, metric=metric)


def pairs_of(xs, ys, order=None, metric="euclidean", **settings):
    return pair_table(
        stored(xs), stored(ys, order), graphs_of(xs, metric), graphs_of(ys, metric, order),
        stream_x="last", stream_y="last", layers=range(len(xs)),
        seed=1, key={"subject": "base"}, resamples=5, permutations=3, **settings,
    )  # fmt: skip


def test_the_spectrum_is_measured_with_and_without_massive_dimensions():
    clouds = [gaussian(), one_massive_dimension()]
    found, massive = spectra_of(clouds)
    assert found.columns.tolist() == SPECTRUM_COLUMNS
    assert massive.columns.tolist() == MASSIVE_TABLE_COLUMNS
    plain = found.query("layer == 0").set_index("metric")["value"]
    assert not plain.index.str.endswith("_without_massive").any()
    assert plain["effective_rank"] == pytest.approx(effective_rank(clouds[0]), rel=1e-3)
    both = found.query("layer == 1").set_index("metric")["value"]
    rest = np.delete(clouds[1], 7, axis=1)
    assert both["effective_rank_without_massive"] == pytest.approx(effective_rank(rest), rel=1e-4)
    assert both["effective_rank"] < both["effective_rank_without_massive"]
    assert both["massive_dimensions"] == 1
    assert massive.query("massive")[["layer", "dimension"]].to_numpy().tolist() == [[1, 7]]


def test_layers_without_variation_have_undefined_spectra_and_no_failure():
    found, _ = spectra_of([np.ones((N, 4)), np.ones((3, 4))])
    values = found.query("layer == 0").set_index("metric")["value"]
    assert np.isnan(values["effective_rank"])
    assert values["anisotropy"] == pytest.approx(1)
    assert set(found.query("layer == 1")["metric"]) == {
        "massive_items", "massive_norm_share", "massive_dimensions"
    }  # fmt: skip


def test_pairs_are_measured_by_item_whatever_the_order_of_the_rows():
    x, y = gaussian(), gaussian() + 1
    y[:, 0] *= 3
    found = pairs_of([x], [y])
    assert found.columns.tolist() == ["subject", *PAIR_COLUMNS]
    values = found.set_index("metric")["value"]
    narrow = x.astype(np.float32), y.astype(np.float32)
    assert values["svcca"] == svcca(*narrow)
    assert values["modality_gap"] == pytest.approx(modality_gap(*narrow), rel=1e-9)
    assert 0 < values["imbalance_x_to_y"] < 0.5
    assert values["dimension_correlation"] > 0.8
    assert values["dimension_correlation_p"] == 0.25
    assert set(found.query("k == 1")["metric"].str[:9]) == {"imbalance"}
    order = np.random.default_rng(0).permutation(N)
    assert pairs_of([x], [y], order).equals(found)


def test_sides_of_different_width_have_what_needs_no_common_space():
    found = pairs_of([gaussian()], [perturbed(gaussian())])
    assert {"svcca", "imbalance_x_to_y", "dimension_correlation"} <= set(found["metric"])
    assert not found["metric"].str.contains("cosine|gap|centroid").any()


def test_copies_are_left_out_of_neighbour_metrics_only():
    found = pairs_of([with_duplicates()], [perturbed(with_duplicates())], metric="cosine")
    n = found.set_index("metric")["n"]
    assert n["svcca"] == N
    assert n["imbalance_x_to_y"] == n["dimension_correlation"] == N - 21


def test_layers_without_variation_are_undefined_and_no_failure():
    found = pairs_of([np.ones((N, 4))], [gaussian()[:, :4]])
    values = found.set_index("metric")["value"]
    defined = pairs_of([gaussian()], [gaussian() + 1])
    assert (
        found["metric"].tolist()
        == pairs_of([gaussian()[:, :4]], [gaussian()[:, :4]])["metric"].tolist()
    )
    assert values[["svcca", "dimension_correlation", "imbalance_x_to_y"]].isna().all()
    few = pairs_of([gaussian()[:5]], [gaussian()[:5]])
    assert few["value"].isna().all() and set(few["n"]) == {5}
    assert few[["metric", "k"]].equals(defined[["metric", "k"]])


def test_sides_with_different_items_are_refused():
    with pytest.raises(VectorsError, match="hold different items"):
        pairs_of([gaussian()], [gaussian()[:-1]])
