"""What is said of the geometry toolbox follows from the numbers."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from layersight.reporting.catalogue import FIGURES
from layersight.reporting.lineup import Lineup
from layersight.reporting.wording import sentences_of

MakeTables = Callable[..., dict[str, pd.DataFrame]]
LINEUP = Lineup(("full", "lora"))
NAN = float("nan")


@pytest.fixture(scope="module")
def tables(make_tables: MakeTables) -> dict[str, pd.DataFrame]:
    return make_tables()


def say(name: str, *frames: pd.DataFrame, lineup: Lineup = LINEUP) -> str:
    entry = next(entry for entry in FIGURES if entry.name == name)
    return entry.say(*frames, lineup)


def shifted(frame: pd.DataFrame, rows: pd.Series, by: float) -> pd.DataFrame:
    """Move the numbers of some rows and their intervals."""
    found = frame.copy()
    for column in ("value", "low", "high"):
        found.loc[rows, column] += by
    return found


def test_concentration_tells_place_and_window_beside_those_of_an_even_change(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["concentration"]
    first, second = sentences_of(say("concentration", frame))
    assert "n = 4 layers" in first
    assert "full 3.00, layers 3 to 4; lora 3.00, layers 3 to 4" in first
    assert "an even change would have its centre at 2.50 and that share in any 2 layers" in first
    assert "full 1.88, blocks 1 to 2" in second
    assert "centre at 1.50 and that share in any 2 blocks" in second


def test_concentration_tells_the_range_over_seeds_and_a_variant_without_change(
    make_tables: MakeTables,
) -> None:
    frame = make_tables(seeds=3)["concentration"]
    lineup = Lineup(("full", "lora"), seeds=3, share=0.4)
    own = (frame["variant"] == "lora") & (frame["unit"] == "block")
    frame.loc[own, ["value", "low", "high", "smallest", "largest"]] = NAN
    centre = (frame["variant"] == "full") & (frame["measure"] == "centre")
    frame.loc[centre, ["smallest", "largest"]] = [1.25, 2.25]
    text = say("concentration", frame, lineup=lineup)
    assert "full 1.88 (1.25 to 2.25 over 3 seeds), blocks 1 to 2; lora no change" in text
    assert "the smallest window with 40 % of the change" in text


def test_of_many_variants_concentration_names_the_extremes(make_tables: MakeTables) -> None:
    names = tuple(f"lora-{i}" for i in range(12))
    frame = make_tables(names)["concentration"]
    own = (frame["measure"] == "centre") & (frame["unit"] == "layer")
    frame.loc[own & (frame["variant"] == "lora-3"), "value"] = 1.5
    frame.loc[own & (frame["variant"] == "lora-8"), "value"] = 3.5
    first = sentences_of(say("concentration", frame, lineup=Lineup(names)))[0]
    assert "are (the extremes of 12 variants): " in first
    assert "lora-3 1.50" in first
    assert "lora-8 3.50" in first
    assert "lora-5" not in first


def test_the_matrix_that_moved_most_is_named_and_methods_that_move_none(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["matrix_change"].copy()
    text = say("matrix_change", frame)
    assert "down_proj of block 2 moved furthest, by 3.60 % of its norm, in full" in text
    assert "15.0 in lora and 30.0 in full" in text
    frame.loc[frame["subject"] == "lora/seed-0", ["relative_change", "effective_rank"]] = 0.0
    assert "lora moved none" in say("matrix_change", frame)
    still = frame.assign(relative_change=0.0)
    assert say("matrix_change", still).startswith("No variant moved any matrix (n = 3 matrices")


def test_the_scale_of_the_plateau_and_its_flatness_are_told(
    tables: dict[str, pd.DataFrame],
) -> None:
    text = say("intrinsic_dimension_scales", tables["intrinsic_dimension"])
    assert "flattest around n2 = 8 at most layers" in text
    assert "by 4.00 % (median)" in text


def test_decimation_counts_the_curves_that_end_where_they_begin(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["intrinsic_dimension"].copy()
    text = say("dimension_decimation", frame)
    assert "(25 to 100 vectors in a subset)" in text
    assert "n = 100" in text
    frame.loc[frame["estimator"] == "two_nn_decimated", "dimension"] = 6.0
    assert "12 of 12 curves end within a tenth" in say("dimension_decimation", frame)


def test_overlaps_are_told_beside_those_of_wrong_pairs(tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["overlap"]
    text = say("overlap_tuned_scales", frame)
    assert "wrong pairs share 0.010 and 0.10" in text
    assert "most neighbours in full at layer 2 and k = 1" in text
    own = (frame["comparison"] == "tuned_base") & (frame["subject"] == "lora/seed-0")
    less = shifted(frame, own & (frame["layer"] == 3) & (frame["k"] == 5), -0.7)
    assert "most neighbours in lora at layer 3 and k = 5" in say("overlap_tuned_scales", less)
    assert "share most neighbours in aligned at layer 2" in say("overlap_modalities_scales", frame)


def test_the_layer_that_rearranges_its_inputs_is_named(tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["overlap"]
    own = (frame["comparison"] == "consecutive") & (frame["subject"] == "aligned")
    less = shifted(frame, own & (frame["layer"] == 3), -0.3)
    assert "change most from layer 3 to the next" in say("overlap_layers", less)
    wide = less.assign(random_low=0.0, random_high=1.0)
    assert "not clearly different from the" in say("overlap_layers", wide)


def test_a_peak_count_and_its_agreement_are_told_against_permuted_labels(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["density"]
    text = say("density_peaks", frame)
    assert "number of peaks of aligned is largest at layer 2, 6.00" in text
    assert "agree best with the kind in aligned at layer 2" in text
    assert "above the 0.020" in text
    chance = shifted(frame, frame["metric"] == "ari_permuted", 0.54)
    assert "not clearly different from the 0.56" in say("density_peaks", chance)


def test_dendrograms_tell_how_pure_peaks_are(tables: dict[str, pd.DataFrame]) -> None:
    merges, peaks, frame = (tables[n] for n in ("density_merges", "density_peaks", "density"))
    text = say("density_dendrograms", merges, peaks, frame)
    assert "layer 2 (highest ARI) has 6 peaks" in text
    assert "100.0 % of the items" in say(
        "density_dendrograms", merges, peaks.assign(label_share=1.0), frame
    )


def test_id_cor_is_told_with_the_share_of_small_p(tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["alignment"]
    assert "in 9 of 12 subjects and layers its permutation p is below 0.05" in say("svcca", frame)
    frame = frame.assign(
        value=frame["value"].where(frame["metric"] != "dimension_correlation_p", 0.5)
    )
    assert "in 0 of 12" in say("svcca", frame)


def test_the_side_that_tells_more_is_named_and_only_where_it_is_clear(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["alignment"]
    text = say("information_imbalance", frame)
    assert "pictures tell more of names than the other way round" in text
    wide = frame.assign(low=frame["value"] - 0.5, high=frame["value"] + 0.5)
    assert "neither side clearly tells more" in say("information_imbalance", wide)
    other = shifted(frame, frame["metric"] == "imbalance_y_to_x", -0.5)
    assert "names tell more of pictures" in say("information_imbalance", other)


def test_probes_are_told_within_and_across_with_the_commonest_class(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["linear_probes"]
    text = say("linear_probes", frame)
    assert "always the commonest class gives 0.16" in text
    assert "in aligned at layer 2" in text
    tuned = (frame["subject"] == "lora/seed-0") & (frame["test"] == "image")
    more = shifted(frame, tuned & (frame["train"] == "text"), 0.3)
    assert "text → image" in say("linear_probes", more)
    assert "tuning raises it" in say("linear_probes", more)


def test_a_cloud_without_massive_activations_is_said_to_have_none(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame, measures = tables["massive"], tables["spectrum"]
    text = say("massive", frame, measures)
    assert "magnitude 1,500, at layer 1" in text
    assert "Massive dimensions, 2 of them" in text
    none = measures.assign(
        value=measures["value"].where(measures["metric"] != "massive_norm_share", 0.0)
    )
    assert "No value is massive" in say("massive", frame, none)


def test_shuffling_is_told_by_what_it_does_to_the_peak(tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["token_clouds"]
    text = say("token_clouds", frame)
    assert "S = 3" in text
    assert "% less" in text
    more = shifted(frame, (frame["shuffle"] == 3) & (frame["metric"] == "gride"), 9.0)
    assert "% more" in say("token_clouds", more)


def test_correlations_whose_band_excludes_zero_are_counted(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["token_cloud_loss"]
    assert "Of 15 subjects and layers 15 have a band without zero" in say("token_cloud_loss", frame)
    wide = frame.assign(low=-1.0)
    assert "Of 15 subjects and layers 0 have" in say("token_cloud_loss", wide)
