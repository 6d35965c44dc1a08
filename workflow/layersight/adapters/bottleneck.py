"""Bottleneck adapters (Houlsby et al. 2019) at linear layers, as LLM-Adapters has them.

    x + U f(D dropout(x)),   D of shape (bottleneck, width), U of shape (width, bottleneck)

on the input of a linear layer (`before`) or on its output (`after`). LLaVA Steering (Bi et al.
2024) uses this code at every linear layer of the MLP, so that both ends have the model's width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import PeftConfig
from torch import nn
from transformers.activations import ACT2FN

from layersight.adapters.registration import AdapterType, register
from layersight.adapters.wrapping import Unmergeable, Wrapper, WrapperModel


@dataclass
class BottleneckConfig(PeftConfig):
    """What `adapter_config.json` says of bottleneck adapters.

    Attributes:
        bottleneck: width inside.
        dropout: probability of dropout on the adapter's input.
        activation: f, by its name in transformers.
        init_std: standard deviation of both matrices at the start.
        target_modules: names of the linear layers.
        after_modules: those of them whose output passes through the adapter, not their input.
        layers_to_transform: blocks; None means all.
        layers_pattern: name of the list of blocks; None finds it.
    """

    bottleneck: int = 256
    dropout: float = 0.05
    activation: str = "tanh"
    init_std: float = 0.02
    target_modules: list[str] | str | None = None
    after_modules: list[str] | None = None
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = AdapterType.LAYERSIGHT_BOTTLENECK


class BottleneckLinear(Unmergeable, Wrapper):
    """A linear layer with a bottleneck adapter before or after it.

    Both matrices start from N(0, init_std²), so the adapter is not the identity at the start.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_dropout", "bottleneck_activation")

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig, after: bool
    ) -> None:
        super().__init__(base_layer, adapter_name)
        inner = self._linear("a bottleneck adapter")
        self.width = inner.out_features if after else inner.in_features
        self.after = after
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self.bottleneck_activation = nn.ModuleDict()
        self.update_layer(adapter_name, config)

    def _add(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Make both matrices of an adapter."""
        down = nn.Linear(self.width, config.bottleneck, bias=False)
        up = nn.Linear(config.bottleneck, self.width, bias=False)
        for linear in (down, up):
            nn.init.normal_(linear.weight, std=config.init_std)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self.bottleneck_dropout[adapter_name] = nn.Dropout(config.dropout)
        self.bottleneck_activation[adapter_name] = ACT2FN[config.activation]

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run adapter and linear layer, or the other way round."""
        if not self.after:
            x = self._adapted(x)
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        return self._adapted(result) if self.after else result

    def _adapted(self, x: torch.Tensor) -> torch.Tensor:
        for name in self._active(self.bottleneck_down):
            down = cast(nn.Linear, self.bottleneck_down[name])
            up = cast(nn.Linear, self.bottleneck_up[name])
            state = self.bottleneck_dropout[name](x.to(down.weight.dtype))
            x = x + up(self.bottleneck_activation[name](down(state))).to(x.dtype)
        return x


class BottleneckModel(WrapperModel):
    """Wraps linear layers."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLinear

    def wrapped(
        self, target: nn.Module, name: str, adapter_name: str, config: BottleneckConfig
    ) -> BottleneckLinear:
        """Return a linear layer with an adapter on the side that the configuration says."""
        return BottleneckLinear(target, adapter_name, config, name in (config.after_modules or []))


register(AdapterType.LAYERSIGHT_BOTTLENECK, BottleneckConfig, BottleneckModel)
