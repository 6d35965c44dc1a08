"""What every adapter of this package does alike: one module wrapped, by PEFT's rules."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn


class Wrapper(nn.Module, BaseTunerLayer):
    """A module of the language model with adapters beside it.

    A subclass makes its containers, calls `update_layer`, and says in `_add` what an adapter is.
    """

    def __init__(self, base_layer: nn.Module, adapter_name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self._disable_adapters = False
        self.merged_adapters = []
        self._active_adapter = adapter_name

    @abstractmethod
    def _add(self, adapter_name: str, config: Any) -> None:
        """Make the parts of an adapter under its name."""

    def update_layer(self, adapter_name: str, config: PeftConfig) -> None:
        """Add an adapter."""
        self._add(adapter_name, config)
        self._move(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _move(self, adapter_name: str) -> None:
        """Bring an adapter to where the wrapped module is."""
        self._move_adapter_to_device_of_base_layer(adapter_name)

    def _active(self, container: nn.ModuleDict | nn.ParameterDict) -> list[str]:
        """Return the names of the adapters that act now and have a part in `container`."""
        if self.disable_adapters:
            return []
        return [name for name in self.active_adapters if name in container]

    def _linear(self, what: str) -> nn.Linear:
        """Return the wrapped linear layer.

        Raises:
            TypeError: it is none; the message begins with `what`.
        """
        inner = self.get_base_layer()
        if not isinstance(inner, nn.Linear):
            raise TypeError(f"{what} needs a linear layer, not {type(inner).__name__}")
        return inner


class Unmergeable:
    """An adapter that no weight can stand for."""

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse."""
        raise NotImplementedError(
            f"{type(self).__name__} acts on activations and cannot be merged into weights"
        )


class WrapperModel(BaseTuner):
    """Wraps the modules that a configuration names, by PEFT's rules."""

    tuner_layer_cls: type[Wrapper]
    target_module_mapping: dict[str, list[str]] = {}

    def wrapped(self, target: nn.Module, name: str, adapter_name: str, config: Any) -> Wrapper:
        """Return `target`, a module called `name`, wrapped."""
        return self.tuner_layer_cls(target, adapter_name, config)  # type: ignore[call-arg]

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, Wrapper):
            target.update_layer(adapter_name, peft_config)
            return
        layer = self.wrapped(target, target_name, adapter_name, peft_config)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)
