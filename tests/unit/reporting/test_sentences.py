from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from layersight.reporting import sentences, sentences_attention, sentences_outcomes
from layersight.reporting.catalogue import FIGURES
from layersight.reporting.lineup import Lineup
from layersight.reporting.wording import number, sentences_of, two

MakeTables = Callable[..., dict[str, pd.DataFrame]]
ONE = Lineup(("full",))


@pytest.fixture
def tables(make_tables: MakeTables) -> dict[str, pd.DataFrame]:
    return make_tables(("full",))


def only(frame: pd.DataFrame, **where: object) -> pd.DataFrame:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame.copy()


def with_interval(frame: pd.DataFrame, value: float, low: float, high: float) -> pd.DataFrame:
    return frame.assign(value=value, low=low, high=high)


@pytest.mark.parametrize("entry", FIGURES, ids=lambda entry: entry.name)
def test_every_figure_names_its_sample_size(entry: object, tables: dict[str, pd.DataFrame]) -> None:
    text = entry.say(*(tables[name] for name in entry.tables), ONE)  # type: ignore[attr-defined]
    assert "n = " in text


def test_a_gain_is_told(tables: dict[str, pd.DataFrame]) -> None:
    frame = only(tables["differences"], benchmark="kind_image", subject="full/seed-0")
    text = sentences_outcomes.differences(with_interval(frame, 0.2, 0.1, 0.3), ONE)
    assert "3 lie above zero and 0 below" in text
    assert "+0.20 (95 % interval +0.10 to +0.30)" in text
    assert "does not differ" not in text


def test_the_same_numbers_with_the_other_sign_are_told_as_a_loss(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = only(tables["differences"], benchmark="kind_image", subject="full/seed-0")
    text = sentences_outcomes.differences(with_interval(frame, -0.2, -0.3, -0.1), ONE)
    assert "0 lie above zero and 3 below" in text
    assert "a loss" in text
    assert "−0.20" in text


def test_an_interval_around_zero_is_no_difference(tables: dict[str, pd.DataFrame]) -> None:
    frame = only(tables["differences"], benchmark="kind_image", subject="full/seed-0")
    text = sentences_outcomes.differences(with_interval(frame, 0.02, -0.05, 0.09), ONE)
    assert "0 lie above zero and 0 below" in text
    assert "in 3 the 95 % interval includes zero" in text
    assert "does not differ clearly from aligned" in text


def test_a_score_at_chance_is_not_called_better_than_chance(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = only(tables["scores"], benchmark="kind_image")
    good = sentences_outcomes.scores(with_interval(frame, 0.6, 0.5, 0.7), ONE)
    assert "3 lie above both chance and majority" in good
    assert "none does not" in good
    weak = sentences_outcomes.scores(with_interval(frame, 0.3, 0.2, 0.4), ONE)
    assert "0 lie above both chance and majority" in weak
    assert "full on kind_image, unseen concepts" in weak


def test_a_score_above_chance_but_not_above_the_majority_answer_fails(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = with_interval(only(tables["scores"], benchmark="kind_image"), 0.6, 0.5, 0.7)
    assert "0 lie above both" in sentences_outcomes.scores(frame.assign(majority=0.55), ONE)


def test_a_lean_to_yes_is_told_and_an_even_share_is_not(tables: dict[str, pd.DataFrame]) -> None:
    frame = only(tables["scores"], benchmark="presence")
    assert "too often" in sentences_outcomes.presence(with_interval(frame, 0.9, 0.8, 1.0), ONE)
    assert "too seldom" in sentences_outcomes.presence(with_interval(frame, 0.1, 0.0, 0.2), ONE)
    assert "does not differ" in sentences_outcomes.presence(
        with_interval(frame, 0.55, 0.4, 0.7), ONE
    )


def test_recovery_names_the_window_that_reaches_half(tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["recovery"]
    assert "half of its gain with [0, 2)" in sentences_outcomes.recovery_cumulative(frame, ONE)
    less = frame.assign(recovery=frame["recovery"] - 0.3)
    assert "half of its gain with [0, 4)" in sentences_outcomes.recovery_cumulative(less, ONE)
    none = frame.assign(recovery=0.1)
    assert "below half of its gain in every" in sentences_outcomes.recovery_cumulative(none, ONE)


def test_undefined_recovery_is_told(tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["recovery"].assign(recovery=float("nan"), undefined_share=1.0)
    for say in (sentences_outcomes.recovery_cumulative, sentences_outcomes.recovery_sliding):
        assert "full has no clear gain (0.30 aligned, 0.60 tuned)" in say(frame, ONE)


def test_a_window_whose_interval_includes_zero_carries_nothing_clearly(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["recovery"]
    assert "from none" not in sentences_outcomes.recovery_sliding(frame, ONE)
    wide = frame.assign(recovery_low=-0.2, recovery_high=1.2)
    text = sentences_outcomes.recovery_sliding(wide, ONE)
    assert "does not differ clearly from none" in text
    assert "does not differ clearly from all" in text


def test_a_loss_that_does_not_fall_is_told(tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["training"]
    assert "falls from 3.95 to 2.15" in sentences_outcomes.training(frame, ONE)
    rising = frame.assign(loss=frame["step"] * 1.0)
    assert "does not fall: it goes from 0.50 to 18.5" in sentences_outcomes.training(rising, ONE)


def test_dimension_says_on_which_side_and_whether_intervals_overlap(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["intrinsic_dimension"]
    text = sentences.intrinsic_dimension(frame, ONE)
    assert "1.00 above" in text
    assert "do not overlap" in text
    swapped = frame.replace({"subject": {"aligned": "full/seed-0", "full/seed-0": "aligned"}})
    assert "1.00 below" in sentences.intrinsic_dimension(swapped, ONE)
    wide = frame.assign(low=frame["dimension"] - 3, high=frame["dimension"] + 3)
    assert "does not differ clearly" in sentences.intrinsic_dimension(wide, ONE)


def test_scale_matters_only_where_the_dimension_varies_with_it(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["intrinsic_dimension"]
    assert "the scale matters little" in sentences.intrinsic_dimension_scales(frame, ONE)
    varied = frame.assign(dimension=frame["dimension"] * frame["n2"])
    assert "together with its scale" in sentences.intrinsic_dimension_scales(varied, ONE)


def test_modalities_are_judged_against_wrong_pairs_and_against_aligned(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["cross_modal"]

    def said(table: pd.DataFrame) -> str:
        return sentences.cross_modal(table, ONE, metric="overlap", words="overlap")

    assert "above the 0.05" in said(frame)
    assert "is raised by tuning" in said(frame)
    wide = frame.assign(low=frame["value"] - 1, high=frame["value"] + 1)
    assert "not clearly different from the 0.05" in said(wide)
    assert "does not differ clearly" in said(wide)
    swapped = frame.replace({"subject": {"aligned": "full/seed-0", "full/seed-0": "aligned"}})
    assert "is lowered by tuning" in said(swapped)


def test_untouched_blocks_are_counted(tables: dict[str, pd.DataFrame]) -> None:
    text = sentences.change(tables["change"], tables["weight_change"], ONE)
    assert "full 3 of 4, most in block 3 (3.00 %)" in text
    still = tables["weight_change"].assign(relative_change=0.0)
    assert "full moved none of them" in sentences.change(tables["change"], still, ONE)


def test_neighbours_that_all_stay_are_told(tables: dict[str, pd.DataFrame]) -> None:
    frame = tables["change"]
    assert "change most in full at layer 4, which keeps 0.20" in sentences.overlap_tuned(frame, ONE)
    same = frame.assign(value=1.0, low=1.0, high=1.0)
    assert "no variant changes the neighbours" in sentences.overlap_tuned(same, ONE)


def test_blocks_that_lean_to_text_are_counted_and_departures_measured_as_factors(
    tables: dict[str, pd.DataFrame],
) -> None:
    frame = tables["attention"]
    text = sentences_attention.attention(frame, ONE)
    # 0.3, 0.6, 1.2 and 2.4, each give or take a fifth.
    assert "below 1 in 2 of 4 blocks" in text
    assert "clearly above 1 in 1;" in text
    assert "smallest in block 0, 0.30 (95 % interval 0.25 to 0.36)" in text
    assert "largest in block 3, 2.40" in text
    assert "by a factor of 2.00" in text
    assert "do not overlap" in text
    swapped = frame.replace({"subject": {"aligned": "full/seed-0", "full/seed-0": "aligned"}})
    assert "by a factor of 0.50" in sentences_attention.attention(swapped, ONE)
    wide = frame.assign(low=frame["value"] / 3, high=frame["value"] * 3)
    assert "does not differ clearly" in sentences_attention.attention(wide, ONE)
    # The first token left in is another ratio: the sentences do not speak of it.
    assert sentences_attention.attention(frame[~frame["bos"]], ONE) == text


def test_the_most_balanced_variant_is_told_with_what_it_trains_and_scores(
    make_tables: MakeTables,
) -> None:
    lineup = Lineup(("full", "lora"))
    made = make_tables()
    frame, scores = made["attention_summary"], made["scores"]
    text = sentences_attention.attention_parameters(frame, scores, lineup)
    assert "nearest to 1 in lora, 0.80 (95 % interval 0.70 to 0.90)" in text
    assert "against the 0.40 (0.30 to 0.50) of aligned it is higher" in text
    assert "100, full has 0.60 (0.50 to 0.70) and scores 0.50 (0.42 to 0.58)" in text
    assert "with the most, 800, lora has 0.80" in text
    assert "of the latter does not differ clearly" in text
    around = frame.assign(high=1.1)
    assert "which includes balance" in sentences_attention.attention_parameters(
        around, scores, lineup
    )
    same = frame.assign(trained_language_model=7)
    assert "All variants train 7 parameters" in sentences_attention.attention_parameters(
        same, scores, lineup
    )
    unknown = frame.assign(trained_language_model=None)
    assert "is not known" in sentences_attention.attention_parameters(unknown, scores, lineup)


def test_a_range_over_seeds_is_not_called_an_interval(make_tables: MakeTables) -> None:
    lineup = Lineup(("full",), seeds=2)
    text = sentences_outcomes.differences(make_tables(("full",), 2)["differences"], lineup)
    assert "range over 2 seeds" in text
    assert "interval" not in text


def test_numbers_are_short_and_signed_with_a_minus() -> None:
    found = [number(x) for x in (0.0, 0.123, -0.5, 12.34, 0.0123, 0.00456)]
    assert found == ["0.00", "0.12", "−0.50", "12.3", "0.012", "0.0046"]
    assert number(0.2, signed=True) == "+0.20"
    assert number(-1e-12) == "0.00000"


def test_two_refuses_three_sentences() -> None:
    assert sentences_of(two("one is 0.5", "two. ")) == ["One is 0.5.", "Two."]
    with pytest.raises(ValueError, match="not two sentences"):
        two("One. And another", "Two")
