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
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn
from transformers.activations import ACT2FN

from layersight.adapters.registration import AdapterType, register


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


class BottleneckLinear(nn.Module, BaseTunerLayer):
    """A linear layer with a bottleneck adapter before or after it.

    Both matrices start from N(0, init_std²), so the adapter is not the identity at the start.
    """

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("bottleneck_dropout", "bottleneck_activation")

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig, after: bool
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        inner = self.get_base_layer()
        if not isinstance(inner, nn.Linear):
            raise TypeError(
                f"a bottleneck adapter needs a linear layer, not {type(inner).__name__}"
            )
        self.width = inner.out_features if after else inner.in_features
        self.after = after
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self.bottleneck_dropout = nn.ModuleDict()
        self.bottleneck_activation = nn.ModuleDict()
        self._disable_adapters = False
        self.merged_adapters = []
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: BottleneckConfig) -> None:
        """Add an adapter."""
        down = nn.Linear(self.width, config.bottleneck, bias=False)
        up = nn.Linear(config.bottleneck, self.width, bias=False)
        for linear in (down, up):
            nn.init.normal_(linear.weight, std=config.init_std)
        self.bottleneck_down[adapter_name] = down
        self.bottleneck_up[adapter_name] = up
        self.bottleneck_dropout[adapter_name] = nn.Dropout(config.dropout)
        self.bottleneck_activation[adapter_name] = ACT2FN[config.activation]
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run adapter and linear layer, or the other way round."""
        if not self.after:
            x = self._adapted(x)
        result: torch.Tensor = self.base_layer(x, *args, **kwargs)
        return self._adapted(result) if self.after else result

    def _adapted(self, x: torch.Tensor) -> torch.Tensor:
        if self.disable_adapters:
            return x
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down = cast(nn.Linear, self.bottleneck_down[name])
                up = cast(nn.Linear, self.bottleneck_up[name])
                state = self.bottleneck_dropout[name](x.to(down.weight.dtype))
                x = x + up(self.bottleneck_activation[name](down(state))).to(x.dtype)
        return x

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse: an adapter that is not linear has no weight to be merged into."""
        raise NotImplementedError("a bottleneck adapter cannot be merged into weights")


class BottleneckModel(BaseTuner):
    """Wraps linear layers, by PEFT's rules."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLinear
    target_module_mapping: dict[str, list[str]] = {}

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,  # type: ignore[override]
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLinear):
            target.update_layer(adapter_name, peft_config)
            return
        after = target_name in (peft_config.after_modules or [])
        layer = BottleneckLinear(target, adapter_name, peft_config, after)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)


register(AdapterType.LAYERSIGHT_BOTTLENECK, BottleneckConfig, BottleneckModel)
