"""EfficientNet-Lite0, the vision encoder.

Source: Tan and Le 2019 (EfficientNet, the B0 plan) in the Lite form that Google released in 2020:
no squeeze-and-excitation, ReLU6 instead of swish, stem and head of fixed width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from layersight.errors import AssetError

# (expansion, output channels, repeats, stride of the first, kernel) of every stage.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_NORM_EPS = 1e-3


class _SameConvolution(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding, which pads more at the end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads: list[int] = []
        for size, kernel, stride in zip(
            reversed(x.shape[-2:]), reversed(self.kernel_size), reversed(self.stride), strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        left, right, top, bottom = pads
        padding = (top, left)
        if (left, top) != (right, bottom):
            x, padding = functional.pad(x, pads), (0, 0)
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)


class _Block(nn.Module):
    """Inverted residual: expand, depthwise convolution, project."""

    def __init__(self, expansion: int, inputs: int, outputs: int, stride: int, kernel: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self._residual = stride == 1 and inputs == outputs
        self._expand_conv: nn.Module | None = None
        if expansion != 1:
            self._expand_conv = _SameConvolution(inputs, middle, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(middle, eps=_NORM_EPS)
        self._depthwise_conv = _SameConvolution(
            middle, middle, kernel, stride, groups=middle, bias=False
        )
        self._bn1 = nn.BatchNorm2d(middle, eps=_NORM_EPS)
        self._project_conv = _SameConvolution(middle, outputs, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outputs, eps=_NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        if self._expand_conv is not None:
            y = functional.relu6(self._bn0(self._expand_conv(y)))
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self._residual else y


class EfficientNetLite0(nn.Module):
    """The network up to its last feature map; parameter names as in the packaged weights."""

    channels = 1280

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConvolution(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=_NORM_EPS)
        blocks, inputs = [], 32
        for expansion, outputs, repeats, stride, kernel in _STAGES:
            for index in range(repeats):
                blocks.append(
                    _Block(expansion, inputs, outputs, stride if index == 0 else 1, kernel)
                )
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _SameConvolution(inputs, self.channels, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(self.channels, eps=_NORM_EPS)
        self._fc = nn.Linear(self.channels, 1000)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map prepared pixels `(n, 3, side, side)` to a feature map `(n, 1280, grid, grid)`."""
        x = functional.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        return functional.relu6(self._bn1(self._conv_head(x)))

    def read_modules(self, last: int | None = None) -> list[nn.Module]:
        """Return the modules that image features pass through, in order.

        The classifier `_fc` is none of them: features are taken before it.

        Args:
            last: only the last so many of the 16 blocks, and what follows them: the head's
                convolution `_conv_head` and its norm `_bn1`. None gives all, with the stem.

        Raises:
            ValueError: there are fewer blocks.
        """
        blocks = list(self._blocks)
        head = [self._conv_head, self._bn1]
        if last is None:
            return [self._conv_stem, self._bn0, *blocks, *head]
        if not 0 < last <= len(blocks):
            raise ValueError(f"the last {last} blocks, but EfficientNet-Lite0 has {len(blocks)}")
        return [*blocks[len(blocks) - last :], *head]

    def classify(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the ImageNet logits `(n, 1000)` of prepared pixels; used to check the weights."""
        logits: torch.Tensor = self._fc(self(pixels).mean((2, 3)))
        return logits


def load_efficientnet_lite0(weights: Path | None) -> EfficientNetLite0:
    """Build the encoder, in evaluation mode, with packaged weights or (None) random ones.

    Args:
        weights: as the package ships them, or all of the encoder's tensors as safetensors.

    Raises:
        AssetError: the weights are not those of EfficientNet-Lite0.
    """
    model = EfficientNetLite0()
    if weights is not None:
        try:
            if weights.suffix == ".safetensors":
                tensors = load_file(weights)
            else:
                # `weights_only`: the package ships a pickle; anything but tensors in it is refused.
                tensors = torch.load(weights, map_location="cpu", weights_only=True)
            model.load_state_dict(tensors)
        except (
            RuntimeError, OSError, UnpicklingError, EOFError, TypeError, ValueError, SafetensorError
        ) as error:  # fmt: skip
            raise AssetError(f"{weights}: not the weights of EfficientNet-Lite0: {error}") from None
    return model.eval()


def prepare_pixels(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Turn RGB images `(n, side, side, 3)` of uint8 into the encoder's input, `(x - 127) / 128`."""
    pixels = torch.as_tensor(images).permute(0, 3, 1, 2).float()
    return ((pixels - 127.0) / 128.0).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def image_features(
    model: EfficientNetLite0,
    batches: Iterable[np.ndarray],
    grid: int,
    device: torch.device,
) -> Iterator[torch.Tensor]:
    """Yield float32 features `(n, grid * grid, 1280)`, row by row of the grid, per batch of images.

    Args:
        model: the encoder.
        batches: uint8 RGB images `(n, side, side, 3)`.
        grid: the feature map is averaged to this side.
        device: where to compute.
    """
    model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for images in batches:
        features = model(prepare_pixels(images).to(device))
        pooled = functional.adaptive_avg_pool2d(features, grid)
        yield pooled.flatten(2).transpose(1, 2).contiguous().cpu()
