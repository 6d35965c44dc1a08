"""Hybrids: identities to the last bit, and equality with models that are really put together."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.conftest import tiny_model

from layersight.interventions.hybrid import Hybrid, block_runs, run_hybrids
from layersight.interventions.windows import windows
from layersight.models.blocks import decoder_blocks


@pytest.fixture(scope="module")
def pair(tiny_folder):
    return tiny_model(tiny_folder, 1), tiny_model(tiny_folder, 2, noise=0.1)


def assembled(target, donor, start, stop):
    """A copy of the target with the donor's weights loaded into the blocks of the window."""
    model = copy.deepcopy(target)
    for index in range(start, stop):
        decoder_blocks(model.language_model)[index].load_state_dict(
            decoder_blocks(donor.language_model)[index].state_dict()
        )
    return model


def test_patching_nothing_is_the_target_bit_for_bit(pair, batch):
    target, donor = pair
    (logits,) = run_hybrids(target, donor, batch, [Hybrid(2, 2)])
    assert torch.equal(logits, target.last_logits(batch))


def test_patching_everything_is_the_donor_bit_for_bit(pair, batch):
    target, donor = pair
    (logits,) = run_hybrids(target, donor, batch, [Hybrid(0, 4, "donor", "donor")])
    assert torch.equal(logits, donor.last_logits(batch))
    assert not torch.equal(logits, target.last_logits(batch))


@pytest.mark.parametrize("window", [(0, 1), (0, 3), (0, 4), (1, 3), (3, 4)])
def test_a_window_is_the_model_with_those_weights_loaded(pair, batch, window):
    target, donor = pair
    (logits,) = run_hybrids(target, donor, batch, [Hybrid(*window)])
    assert torch.equal(logits, assembled(target, donor, *window).last_logits(batch))


def test_the_donors_connector_can_be_taken_alone(pair, batch):
    target, donor = pair
    model = copy.deepcopy(target)
    model.connector = donor.connector
    (logits,) = run_hybrids(target, donor, batch, [Hybrid(0, 0, "donor")])
    assert torch.equal(logits, model.last_logits(batch))


def test_the_prefix_tree_gives_the_same_bits_as_one_hybrid_at_a_time(pair, batch):
    target, donor = pair
    hybrids = [
        Hybrid(0, 0),
        Hybrid(2, 4),
        Hybrid(0, 2),
        Hybrid(0, 4),
        Hybrid(1, 2),
        Hybrid(0, 4, "donor"),
    ]
    together = run_hybrids(target, donor, batch, hybrids)
    for hybrid, logits in zip(hybrids, together, strict=True):
        assert torch.equal(run_hybrids(target, donor, batch, [hybrid])[0], logits)
    assert block_runs(hybrids, 4) < 4 * len(hybrids)


def test_the_models_are_left_as_they_were(pair, batch):
    target, donor = pair
    before = target.last_logits(batch)
    run_hybrids(target, donor, batch, [Hybrid(0, 3)])
    assert torch.equal(target.last_logits(batch), before)
    assert "forward" not in decoder_blocks(target.language_model)[0].__dict__


def test_a_window_outside_the_model_is_refused(pair, batch):
    with pytest.raises(ValueError, match=r"\[0, 5\) is not inside"):
        run_hybrids(*pair, batch, [Hybrid(0, 5)])


def test_windows_cover_all_blocks_and_end_at_the_last():
    assert list(windows("cumulative", 10, 4, None)) == [(0, 4), (0, 8), (0, 10)]
    assert list(windows("sliding", 10, 4, 4)) == [(0, 4), (4, 8), (6, 10)]
    assert list(windows("sliding", 10, 5, 5)) == [(0, 5), (5, 10)]
