import numpy as np
import pandas as pd
import pytest

from layersight.geometry import measure
from layersight.geometry.alignment import linear_cka
from layersight.geometry.graph import neighbour_graph
from layersight.geometry.measure import GeometrySettings, change_table, cross_modal_table
from layersight.geometry.neighbours import nearest_neighbours
from layersight.geometry.overlap import neighbourhood_overlap

N, D = 120, 16
IDS = np.array([f"item-{i:03d}" for i in range(N)])
SETTINGS = GeometrySettings(k=5, resamples=40)
CROSS_MODAL_METRICS = {
    "overlap",
    "overlap_random_pairs",
    "overlap_within_group",
    "overlap_within_group_random_pairs",
    "cka",
    "cka_random_pairs",
    "cosine",
    "cosine_random_pairs",
    "cosine_centred",
    "cosine_centred_random_pairs",
    "label_overlap_image",
    "label_overlap_text",
}
GROUPS = {item: row % 4 for row, item in enumerate(IDS.tolist())}


def vectors(name, layer, stream):
    """The same for every call; layer 0 of stream "last" is one vector for all items."""
    seed = [ord(c) for c in f"{name}{stream}"]
    if layer == 0 and stream == "last":
        return np.tile(np.random.default_rng(seed).standard_normal(D), (N, 1)).astype(np.float32)
    shared = np.random.default_rng([layer]).standard_normal((N, D))
    own = np.random.default_rng([*seed, layer]).standard_normal((N, D))
    return (2 + shared + 0.3 * own).astype(np.float32)


def reader(name, order=slice(None)):
    return lambda layer, stream: (IDS[order], vectors(name, layer, stream)[order])


def near(read, k=N):
    def graph(layer, stream):
        return neighbour_graph(*read(layer, stream), k)

    return graph


def changes(
    read_reference, read_subject, streams=("last", "image"), layers=(0, 1), seed=3, k=N, graphs=None
):
    first, second = graphs or (near(read_reference, k), near(read_subject, k))
    return change_table(
        read_reference, read_subject, reference_graph=first, subject_graph=second,
        subject="full/seed-0", reference="base", probe="pairs",
        streams=streams, layers=layers, settings=SETTINGS, seed=seed,
    )  # fmt: skip


def cross_modal(
    read_image, read_text, layers=(0, 1), stream="last", groups=GROUPS, seed=3, k=N
):  # fmt: skip
    return cross_modal_table(
        read_image, read_text, image_graph=near(read_image, k), text_graph=near(read_text, k),
        subject="full/seed-0", stream_image=stream, stream_text=stream,
        groups=groups, layers=layers, settings=SETTINGS, seed=seed,
    )  # fmt: skip


def one(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_change_is_that_of_the_metrics():
    table = changes(reader("base"), reader("tuned"))
    assert list(table.columns) == [
        "subject", "reference", "probe", "stream", "layer", "metric", "k", "n", "value", "low",
        "high",
    ]  # fmt: skip
    assert len(table) == 2 * 2 * 3
    a, b = vectors("base", 1, "image"), vectors("tuned", 1, "image")
    overlap = neighbourhood_overlap(
        nearest_neighbours(a, 5).indices, nearest_neighbours(b, 5).indices, 5
    )
    norms = np.linalg.norm(b - a, axis=1) / np.linalg.norm(a, axis=1)
    expected = {"overlap": (5, overlap.mean()), "cka": (0, linear_cka(a, b)),
                "relative_norm": (0, norms.mean())}  # fmt: skip
    for metric, (k, value) in expected.items():
        row = one(table, stream="image", layer=1, metric=metric)
        assert row["value"] == pytest.approx(value, rel=1e-5)
        assert (row["k"], row["n"]) == (k, N)
        assert row["low"] < row["value"] < row["high"]


def test_an_unchanged_model_has_not_changed():
    table = changes(reader("base"), reader("base"), ["image"])
    values = table.groupby("metric")["value"].unique().to_dict()
    assert values["overlap"] == [1.0]
    assert values["relative_norm"] == [0.0]
    assert values["cka"] == pytest.approx(1.0)


def test_identical_vectors_have_no_overlap_and_no_cka():
    table = changes(reader("base"), reader("tuned"))
    rows = table[(table["stream"] == "last") & (table["layer"] == 0)].set_index("metric")
    assert rows.loc[["overlap", "cka"], ["value", "low", "high"]].isna().all(axis=None)
    assert rows.loc["overlap", "n"] == 1
    assert rows.loc["cka", "n"] == N
    assert rows.loc["relative_norm", "value"] > 0


def test_copies_do_not_count_as_agreement():
    # 60 items share one vector in each space; unrelated otherwise.
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, N, D)).astype(np.float32)
    a[60:], b[60:] = a[60], b[60]
    table = changes(lambda *_: (IDS, a), lambda *_: (IDS, b), ["image"], [1])
    row = one(table, metric="overlap")
    assert row["n"] == 61
    assert row["value"] < 0.2


def test_items_are_matched_by_id_not_by_position():
    order = np.random.default_rng(2).permutation(N)
    plain = changes(reader("base"), reader("tuned"))
    pd.testing.assert_frame_equal(changes(reader("base"), reader("tuned", order)), plain)
    pairs = cross_modal(reader("picture"), reader("caption"))
    pd.testing.assert_frame_equal(cross_modal(reader("picture"), reader("caption", order)), pairs)


def test_numbers_do_not_depend_on_what_else_is_computed():
    def alike(table, part):
        keys = ["layer", "metric"] + (["stream"] if "stream" in table else [])
        joined = part.merge(table, on=keys, suffixes=("", "_all"))
        assert len(joined) == len(part) > 0
        for column in ("value", "low", "high"):
            np.testing.assert_array_equal(joined[column], joined[f"{column}_all"])

    alike(
        changes(reader("base"), reader("tuned"), ["last", "image"], [0, 1, 2]),
        changes(reader("base"), reader("tuned"), ["image"], [2, 1]),
    )
    alike(
        cross_modal(reader("picture"), reader("caption"), [0, 1, 2]),
        cross_modal(reader("picture"), reader("caption"), [2, 1]),
    )


def test_the_seed_moves_the_intervals_and_not_the_values():
    first = changes(reader("base"), reader("tuned"), ["image"])
    second = changes(reader("base"), reader("tuned"), ["image"], seed=4)
    np.testing.assert_array_equal(first["value"], second["value"])
    assert (first["low"] != second["low"]).all()


def test_layers_and_streams_draw_for_themselves():
    def constant(name):
        return lambda *_: (IDS, vectors(name, 1, "image"))

    table = changes(constant("base"), constant("tuned"), ["last", "image"], [1, 2])
    for _, rows in table.groupby("metric"):
        assert rows["value"].nunique() == 1
        assert rows["low"].nunique() == 4
    table = cross_modal(constant("picture"), constant("caption"), [1, 2])
    controls = table[table["metric"].str.endswith("random_pairs")]
    assert (controls.groupby("metric")["value"].nunique() == 2).all()


def test_label_overlaps_are_plain_shares():
    groups = {item: "rare" if row < 20 else "common" for row, item in enumerate(IDS.tolist())}
    table = cross_modal(reader("picture"), reader("caption"), [1], groups=groups)
    labels = np.arange(N) < 20
    for metric, name in [("label_overlap_image", "picture"), ("label_overlap_text", "caption")]:
        indices = nearest_neighbours(vectors(name, 1, "last"), 5).indices
        expected = (labels[indices] == labels[:, np.newaxis]).mean()
        assert one(table, metric=metric)["value"] == pytest.approx(expected)


def test_pairs_agree_across_modalities_and_wrong_pairs_do_not():
    table = cross_modal(reader("picture"), reader("caption"))
    assert list(table.columns) == [
        "subject", "stream_image", "stream_text", "layer", "metric", "k", "n", "value", "low",
        "high",
    ]  # fmt: skip
    assert set(table["metric"]) == CROSS_MODAL_METRICS
    assert len(table) == 2 * len(CROSS_MODAL_METRICS)
    row = table[table["layer"] == 1].set_index("metric")
    assert (row["n"] == N).all()
    assert (row["low"] <= row["value"]).all()
    assert (row["value"] <= row["high"]).all()
    value = row["value"]
    assert value["overlap"] > 0.5
    assert value["overlap_random_pairs"] == pytest.approx(5 / (N - 1), abs=0.03)
    assert value["overlap_within_group"] > 0.5
    assert value["overlap_within_group_random_pairs"] == pytest.approx(5 / 29, abs=0.06)
    assert value["cka"] > 0.8 > value["cka_random_pairs"]
    assert value["cosine"] > 0.9
    assert value["cosine_random_pairs"] > 0.7
    assert value["cosine_centred"] > 0.8
    assert abs(value["cosine_centred_random_pairs"]) < 0.1
    assert value["label_overlap_image"] == pytest.approx(29 / (N - 1), abs=0.06)
    uses_k = {"overlap", "overlap_random_pairs", "overlap_within_group",
              "overlap_within_group_random_pairs", "label_overlap_image",
              "label_overlap_text"}  # fmt: skip
    assert set(row.index[row["k"] == 5]) == uses_k
    assert set(row.index[row["k"] == 0]) == CROSS_MODAL_METRICS - uses_k


def test_identical_vectors_leave_only_raw_cosines_across_modalities():
    table = cross_modal(reader("picture"), reader("caption"), [0])
    assert set(table["metric"]) == CROSS_MODAL_METRICS
    defined = table.dropna(subset=["value"])
    assert set(defined["metric"]) == {"cosine", "cosine_random_pairs"}
    assert one(table, metric="overlap")["n"] == 1
    assert one(table, metric="cka")["n"] == N


def test_small_groups_are_left_out_of_the_overlap_within_groups():
    groups = {item: "rest" if row < 100 else f"own-{row}" for row, item in enumerate(IDS.tolist())}
    table = cross_modal(reader("picture"), reader("caption"), [1], groups=groups)
    assert one(table, metric="overlap_within_group")["n"] == 100
    assert one(table, metric="overlap")["n"] == N
    table = cross_modal(
        reader("picture"), reader("caption"), [1], groups={item: item for item in IDS.tolist()}
    )
    row = one(table, metric="overlap_within_group")
    assert row["n"] == 0
    assert np.isnan(row["value"])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_handful_of_items_gives_nan_and_no_failure(n):
    def few(name):
        return lambda layer, stream: (IDS[:n], vectors(name, layer, stream)[:n])

    assert one(changes(few("base"), few("tuned"), ["image"], [1]), metric="overlap")["n"] == n
    assert set(cross_modal(few("a"), few("b"))["metric"]) == CROSS_MODAL_METRICS


def test_items_that_do_not_match_are_refused_with_an_example():
    with pytest.raises(ValueError, match=r"1 only on the first.*'item-119'"):
        changes(reader("base"), reader("tuned", slice(0, N - 1)))
    with pytest.raises(ValueError, match="occurs twice"):
        changes(reader("base"), reader("tuned", [0, 0, 1]))
    with pytest.raises(ValueError, match="have no group .for example 'item-000'"):
        cross_modal(reader("a"), reader("b"), groups={})


def test_vectors_that_are_not_finite_name_stream_layer_and_item():
    def broken(layer, stream):
        x = vectors("base", layer, stream)
        x[7, 3] = np.inf
        return IDS, x

    with pytest.raises(ValueError, match=r"stream 'image', layer 1: 1 of 120.*'item-007'"):
        changes(broken, reader("tuned"), ["image"], [1], graphs=(None, None))


def test_vectors_of_different_width_are_refused():
    with pytest.raises(ValueError, match="16 dimensions"):
        changes(reader("base"), lambda layer, _: (IDS, np.ones((N, 3), dtype=np.float32)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"metric": "manhattan"},
        {"resamples": 0},
        {"level": 1.0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is"):
        GeometrySettings(**wrong)


def test_the_default_settings_are_those_of_the_study():
    assert measure.GeometrySettings() == GeometrySettings(
        k=10, metric="euclidean", resamples=500, level=0.95
    )
