"""What the figures of the geometry toolbox show, panel by panel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram, linkage
from scipy.spatial.distance import squareform

from layersight.geometry.clusters import merge_table, saddle_dendrogram
from layersight.geometry.concentration import concentration
from layersight.geometry.density import DensityPeaks
from layersight.reporting import figures_dimension as dimension
from layersight.reporting import figures_matrices as matrices
from layersight.reporting.catalogue import FIGURES
from layersight.reporting.figures_density import chosen_cloud, chosen_layers, linkage_of
from layersight.reporting.figures_maps import left_note, some_panels
from layersight.reporting.figures_spectrum import leading_dimensions
from layersight.reporting.lineup import Lineup
from layersight.reporting.style import legend_above, styled

MakeTables = Callable[..., dict[str, pd.DataFrame]]
LINEUP = Lineup(("full", "lora"))
MANY = tuple(f"lora-{i}" for i in range(15))


def draw(name: str, tables: dict[str, pd.DataFrame], lineup: Lineup = LINEUP) -> Figure:
    entry = next(entry for entry in FIGURES if entry.name == name)
    return entry.draw(*(tables[table] for table in entry.tables), lineup)


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_visible() and ax.get_title()]


def test_a_map_shows_the_numbers_of_the_table_and_leaves_the_undefined_white(
    make_tables: MakeTables,
) -> None:
    tables = make_tables()
    rows = tables["overlap"].query(
        "comparison == 'tuned_base' and subject == 'full/seed-0' and stream == 'last' "
        "and probe == 'visual_questions'"
    )
    figure = draw("overlap_tuned_scales", tables)
    ax = next(ax for ax in figure.axes if ax.get_title() == "full")
    shown = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert shown == pytest.approx(
        rows.pivot(index="k", columns="layer", values="value").to_numpy(), nan_ok=True
    )
    assert np.isnan(shown[:, 0]).all()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1", "5", "10"]


def test_the_last_map_of_overlaps_is_of_wrong_pairs(make_tables: MakeTables) -> None:
    for name in ("overlap_tuned_scales", "overlap_modalities_scales"):
        figure = draw(name, make_tables())
        ax = next(ax for ax in figure.axes if ax.get_title() == "wrong pairs, mean")
        shown = np.ma.filled(ax.images[0].get_array(), np.nan)
        assert shown[:, 1] == pytest.approx([1 / 99, 5 / 99, 10 / 99])


@pytest.mark.parametrize(
    ("name", "most", "all_of_them"),
    [("intrinsic_dimension_scales", 12, 16), ("overlap_tuned_scales", 11, 15)],
)
def test_maps_of_many_variants_say_how_many_are_left_to_the_table(
    make_tables: MakeTables, name: str, most: int, all_of_them: int
) -> None:
    figure = draw(name, make_tables(MANY), Lineup(MANY))
    assert len([title for title in titles(figure) if title != "wrong pairs, mean"]) == most
    assert f"{most} of {all_of_them} subjects" in figure.get_suptitle()


def test_a_note_is_made_only_where_something_is_left_out() -> None:
    assert left_note(["a", "b"], some_panels(["a", "b"]), "overlap") == ""
    note = left_note(["a", "b", "c"], some_panels(["a", "b", "c"], 2), "overlap")
    assert note == "2 of 3 subjects; all are in the table overlap"


def test_dots_mark_the_plateau_of_most_seeds(make_tables: MakeTables) -> None:
    tables = make_tables(("full",), 3)
    frame = tables["intrinsic_dimension"]
    chosen = (frame["estimator"] == "gride") & (frame["layer"] == 2)
    odd = chosen & (frame["subject"] == "full/seed-0")
    frame.loc[odd, "plateau"] = frame.loc[odd, "n2"] == 2
    figure = draw("intrinsic_dimension_scales", tables, Lineup(("full",), seeds=3))
    ax = next(ax for ax in figure.axes if ax.get_title() == "full")
    (dots,) = ax.get_lines()
    ranks = [2, 4, 8, 16]
    marked = {int(x): ranks[int(y)] for x, y in zip(*dots.get_data(), strict=True)}
    assert marked == {1: 8, 2: 8, 3: 8, 4: 8}


@pytest.mark.parametrize(
    ("layers", "chosen"),
    [
        (range(31), [1, 11, 20, 30]),
        (range(5), [1, 2, 3, 4]),
        (range(3), [1, 2]),
        ([0], [0]),
    ],
)
def test_decimation_is_shown_at_layers_spread_over_the_depth(
    layers: list[int], chosen: list[int]
) -> None:
    assert dimension.decimation_layers(list(layers)) == chosen


def test_decimation_is_drawn_over_the_vectors_of_a_subset(make_tables: MakeTables) -> None:
    figure = draw("dimension_decimation", make_tables())
    line = figure.axes[0].get_lines()[0]
    assert sorted(line.get_xdata()) == [25, 50, 100]


def saddle_cloud() -> DensityPeaks:
    saddles = np.array([[np.nan, 4.0, 1.0], [4.0, np.nan, np.nan], [1.0, np.nan, np.nan]])
    return DensityPeaks(
        labels=np.array([0, 0, 1, 2]),
        core=np.ones(4, dtype=bool),
        peaks=np.array([0, 2, 3]),
        log_density=np.array([6.0, 5.5, 5.0, 3.0]),
        saddles=saddles,
        floor=0.5,
        dimension=2.0,
        log_density_error=0.1,
        k=3,
        z=1.6,
    )


def test_a_dendrogram_joins_peaks_where_scipy_does() -> None:
    found = saddle_cloud()
    links = linkage_of(merge_table(found).sample(frac=1, random_state=0))
    assert links == pytest.approx(saddle_dendrogram(found))
    depth = np.array([[0, 2, 5], [2, 0, 5.5], [5, 5.5, 0]])
    own = linkage(squareform(depth), "weighted")
    assert links == pytest.approx(own)
    assert dendrogram(links, no_plot=True)["leaves"] == dendrogram(own, no_plot=True)["leaves"]


def test_dendrograms_show_an_early_layer_the_best_and_the_last(make_tables: MakeTables) -> None:
    tables = make_tables()
    frame = tables["density"]
    cloud = dict(zip(("subject", "probe", "stream"), chosen_cloud(frame, LINEUP), strict=True))
    assert cloud == {"subject": "full/seed-0", "probe": "visual_questions", "stream": "last"}
    own = frame[(frame[list(cloud)] == pd.Series(cloud)).all(axis=1)].copy()
    assert chosen_layers(own) == [(1, "early"), (2, "highest ARI"), (4, "last")]
    own.loc[(own["metric"] == "ari") & (own["layer"] == 4), "value"] = 0.99
    assert chosen_layers(own) == [(1, "early"), (4, "highest ARI, last")]
    own.loc[own["metric"] == "peaks", "value"] = float("nan")
    assert chosen_layers(own) == []


def test_leaves_are_named_by_their_commonest_kind_and_all_are_there(
    make_tables: MakeTables,
) -> None:
    tables = make_tables()
    figure = draw("density_dendrograms", tables)
    ax = figure.axes[1]
    peaks = tables["density_peaks"].query(
        "subject == 'full/seed-0' and probe == 'visual_questions' and stream == 'last' "
        "and layer == 2"
    )
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert len(names) == len(peaks) == 6
    assert "animal 90 % of 40" in names
    assert len(ax.get_lines()) == len(peaks) - 1


def test_matrices_that_did_not_move_are_white_and_vectors_are_left_to_the_table(
    make_tables: MakeTables,
) -> None:
    frame = make_tables()["matrix_change"]
    table = matrices.matrix_rows(frame)
    still = table[(table["variant"] == "lora") & (table["matrix"] == "self_attn.o_proj.weight")]
    assert still[["change", "rank"]].isna().all(axis=None)
    assert not table["matrix"].str.contains("norm").any()
    assert table["change"].max() == pytest.approx(100 * frame["relative_change"][
        frame["matrix"] == "mlp.down_proj.weight"].max())  # fmt: skip


@pytest.mark.parametrize("unit", ["layer", "block"])
@pytest.mark.parametrize("positions", [4, 5, 30])
@pytest.mark.parametrize("share", [0.5, 0.3])
def test_an_even_change_has_the_centre_and_width_that_are_drawn(
    unit: str, positions: int, share: float
) -> None:
    first = 1 if unit == "layer" else 0
    found = concentration(np.ones(positions), first=first, share=share)
    assert found is not None
    assert matrices.even(positions, unit, share) == (found.centre, found.stop - found.start)


def test_concentration_draws_the_window_of_every_variant(make_tables: MakeTables) -> None:
    tables = make_tables(seeds=3)
    figure = draw("concentration", tables, Lineup(("full", "lora"), seeds=3))
    assert titles(figure) == ["1 − overlap", "1 − CKA", "relative norm", "change of weights"]
    rows = matrices.concentration_panels(tables["concentration"])[-1][1]
    wanted = matrices.places(rows).set_index("variant").loc[["full", "lora"]]
    bars = figure.axes[-1].patches
    assert [bar.get_x() + 0.5 for bar in bars] == pytest.approx(list(wanted["start"]))
    assert [bar.get_width() for bar in bars] == pytest.approx(
        list(wanted["stop"] - wanted["start"])
    )


def test_single_dimensions_are_those_with_the_largest_values() -> None:
    frame = pd.DataFrame(
        {"dimension": [3, 7, 9, 7], "layer": [0, 0, 1, 1], "largest": [2.0, -9.0, 5.0, 1.0]}
    )
    assert leading_dimensions(frame, 2) == [7, 9]


def test_a_long_legend_makes_the_figure_higher_and_keeps_its_panels() -> None:
    @styled
    def drawn(count: int) -> Figure:
        figure = Figure(figsize=(7.0, 2.0), layout="constrained")
        ax = figure.subplots()
        handles = [ax.plot([0, 1], label=f"variant-{i}")[0] for i in range(count)]
        legend_above(figure, handles, "title")
        figure.draw_without_rendering()
        return figure

    figures = [drawn(count) for count in (2, 40)]
    few, many = (one.axes[0].get_position().height * one.get_figheight() for one in figures)
    assert figures[1].get_figheight() > figures[0].get_figheight() + 0.5
    assert many == pytest.approx(few, rel=0.05)


def test_no_legend_lies_on_a_panel(make_tables: MakeTables) -> None:
    tables = make_tables()
    for name in ("token_clouds", "massive", "linear_probes"):
        figure = draw(name, tables)
        figure.draw_without_rendering()
        boxes = [ax.get_tightbbox() for ax in figure.axes]
        for legend in figure.legends:
            assert not any(legend.get_window_extent().overlaps(box) for box in boxes), name
