"""Orthogonal fine-tuning with full block matrices (OFT, Qiu et al. 2023), as PEFT 0.10 had it.

The output of a linear layer, without its bias, is rotated by r blocks Q = (I - S)(I + S)⁻¹ with
S = (B - Bᵀ) / 2. Here B is a full matrix, of which only the skew part has an effect; PEFT's present
OFT stores the skew part alone, and so has half the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import nn

from layersight.adapters.registration import AdapterType, register
from layersight.adapters.wrapping import Wrapper, WrapperModel


@dataclass
class BlockRotationConfig(PeftConfig):
    """What `adapter_config.json` says of rotations.

    Attributes:
        r: number of blocks; divides the layer's outputs.
        target_modules: names of the linear layers.
        layers_to_transform: blocks of the model; None means all.
        layers_pattern: name of the model's list of blocks; None finds it.
    """

    r: int = 16
    target_modules: list[str] | str | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = AdapterType.LAYERSIGHT_BLOCK_ROTATION


def cayley(blocks: torch.Tensor) -> torch.Tensor:
    """Return the rotations `(r, b, b)` of full matrices `(r, b, b)`; zeros give the identity."""
    skew = 0.5 * (blocks - blocks.mT)
    identity = torch.eye(blocks.shape[-1], device=blocks.device, dtype=blocks.dtype)
    rotation: torch.Tensor = torch.linalg.solve(identity + skew, identity - skew, left=False)
    return rotation


class RotatedLinear(Wrapper):
    """A linear layer with its outputs rotated; the identity at the start."""

    adapter_layer_names = ("rotation_blocks",)

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: BlockRotationConfig
    ) -> None:
        super().__init__(base_layer, adapter_name)
        self.width = self._linear("a rotation").out_features
        self.rotation_blocks = nn.ParameterDict()
        self.update_layer(adapter_name, config)

    def _add(self, adapter_name: str, config: BlockRotationConfig) -> None:
        """Make the blocks of a rotation.

        Raises:
            ValueError: they do not divide the outputs.
        """
        if self.width % config.r:
            raise ValueError(f"{config.r} blocks do not divide {self.width} outputs")
        size = self.width // config.r
        self.rotation_blocks[adapter_name] = nn.Parameter(torch.zeros(config.r, size, size))

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run the linear layer and rotate what it gives; its bias is added afterwards."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        names = self._active(self.rotation_blocks)
        if self.merged or not names:
            return result
        bias = cast(nn.Linear, self.get_base_layer()).bias
        rotated = result if bias is None else result - bias
        for name in names:
            rotation = cayley(self.rotation_blocks[name])
            parts = rotated.to(rotation.dtype).unflatten(-1, (rotation.shape[0], -1))
            rotated = torch.einsum("...rb,rbc->...rc", parts, rotation).flatten(-2)
        rotated = rotated.to(result.dtype)
        return rotated if bias is None else rotated + bias

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Rotate the base layer's weight."""
        for name in check_adapters_to_merge(self, adapter_names):
            if name in self.rotation_blocks:
                self._rotate_weight(cayley(self.rotation_blocks[name]))
                self.merged_adapters.append(name)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Rotate the base layer's weight back."""
        while self.merged_adapters:
            self._rotate_weight(cayley(self.rotation_blocks[self.merged_adapters.pop()]).mT)

    def _rotate_weight(self, rotation: torch.Tensor) -> None:
        weight = cast(nn.Linear, self.get_base_layer()).weight
        parts = weight.to(rotation.dtype).unflatten(0, (rotation.shape[0], -1))
        rotated = torch.einsum("rbc,rbi->rci", rotation, parts).flatten(0, 1)
        weight.copy_(rotated)


class BlockRotationModel(WrapperModel):
    """Wraps linear layers."""

    prefix = "rotation_"
    tuner_layer_cls = RotatedLinear


register(AdapterType.LAYERSIGHT_BLOCK_ROTATION, BlockRotationConfig, BlockRotationModel)
