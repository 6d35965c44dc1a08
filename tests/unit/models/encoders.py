"""A vision encoder for tests, with random weights under which signals neither fade nor burst."""

from __future__ import annotations

import torch
from torch import nn

from layersight.models.vision import load_efficientnet_lite0
from layersight.models.vision_tower import VisionTower

SIDE = 64
GRID = 2


def lively_tower(seed: int = 0) -> VisionTower:
    """Torch's own initialisation makes each layer's output smaller than its input."""
    torch.manual_seed(seed)
    encoder = load_efficientnet_lite0(None)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return VisionTower(encoder, GRID)
