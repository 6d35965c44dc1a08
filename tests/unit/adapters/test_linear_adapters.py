"""Bottleneck adapters and rotations of linear layers: the formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from layersight.adapters.block_rotation import BlockRotationConfig, RotatedLinear, cayley
from layersight.adapters.bottleneck import BottleneckConfig, BottleneckLinear


@pytest.mark.parametrize("after", [False, True])
def test_a_bottleneck_stands_before_or_after_its_linear_layer(after):
    torch.manual_seed(0)
    linear = nn.Linear(6, 10)
    layer = BottleneckLinear(linear, "default", BottleneckConfig(bottleneck=3, dropout=0.0), after)
    down, up = layer.bottleneck_down["default"].weight, layer.bottleneck_up["default"].weight
    assert down.shape == (3, 10 if after else 6)
    x = torch.randn(4, 6)
    if after:
        y = linear(x)
        expected = y + torch.tanh(y @ down.T) @ up.T
    else:
        expected = linear(x + torch.tanh(x @ down.T) @ up.T)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    # Not the identity at the start, as published.
    assert not torch.equal(layer(x), linear(x))


def test_bottleneck_matrices_start_from_the_published_normal_distribution():
    torch.manual_seed(0)
    layer = BottleneckLinear(nn.Linear(400, 2), "default", BottleneckConfig(), False)
    for weight in (layer.bottleneck_down["default"].weight, layer.bottleneck_up["default"].weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.02)
        assert weight.mean().item() == pytest.approx(0.0, abs=1e-3)


def test_dropout_of_a_bottleneck_acts_in_training_only():
    torch.manual_seed(0)
    layer = BottleneckLinear(nn.Linear(6, 10), "default", BottleneckConfig(dropout=0.5), False)
    x = torch.randn(4, 6)
    assert not torch.equal(layer.train()(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def rotated(bias=True):
    torch.manual_seed(0)
    linear = nn.Linear(6, 12, bias=bias)
    layer = RotatedLinear(linear, "default", BlockRotationConfig(r=3))
    with torch.no_grad():
        layer.rotation_blocks["default"].normal_()
    return linear, layer


def test_cayley_gives_rotations_and_reads_the_skew_part_only():
    torch.manual_seed(0)
    blocks = torch.randn(3, 4, 4, dtype=torch.float64)
    Q = cayley(blocks)
    assert torch.allclose(Q @ Q.mT, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    assert torch.linalg.det(Q) == pytest.approx(torch.ones(3).numpy())
    symmetric = torch.randn(3, 4, 4, dtype=torch.float64)
    assert torch.allclose(cayley(blocks + symmetric + symmetric.mT), Q)
    assert torch.equal(cayley(torch.zeros(2, 4, 4)), torch.eye(4).expand(2, 4, 4))


def test_outputs_are_rotated_block_by_block_and_the_bias_is_not():
    linear, layer = rotated()
    x = torch.randn(5, 6)
    Q = torch.block_diag(*cayley(layer.rotation_blocks["default"]))
    expected = (x @ linear.weight.T) @ Q + linear.bias
    assert torch.allclose(layer(x), expected, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_a_rotation_merges_into_the_weight_and_back(bias):
    linear, layer = rotated(bias)
    x, weight = torch.randn(5, 6), linear.weight.detach().clone()
    apart = layer(x).detach()
    layer.merge()
    assert torch.allclose(layer(x), apart, atol=1e-5)
    assert torch.allclose(linear(x), apart, atol=1e-5)
    layer.unmerge()
    assert torch.allclose(linear.weight, weight, atol=1e-5)


def test_blocks_that_do_not_divide_the_outputs_are_refused():
    with pytest.raises(ValueError, match="5 blocks do not divide 12 outputs"):
        RotatedLinear(nn.Linear(6, 12), "default", BlockRotationConfig(r=5))
