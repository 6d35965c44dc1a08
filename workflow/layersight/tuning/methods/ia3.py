"""IA3: learned vectors scale keys, values and the MLP's inside (Liu et al. 2022), through PEFT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import model_validator

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Options(Strict):
    """Which linear layers are scaled; L (2D + F) parameters by default."""

    target_modules: list[str] | None = None
    """Linear layers whose output is scaled; null means those of keys and values."""
    feedforward_modules: list[str] | None = None
    """Linear layers whose input is scaled; null means the one that leads out of the MLP."""

    @model_validator(mode="after")
    def _some_layers(self) -> Options:
        if self.target_modules == [] == self.feedforward_modules:
            raise ValueError("target_modules and feedforward_modules are both empty")
        return self


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    outputs = ["k_proj", "v_proj"] if options.target_modules is None else options.target_modules
    inputs = ["down_proj"] if options.feedforward_modules is None else options.feedforward_modules
    sizes = [linear[name][1] for name in outputs if name in linear and name not in inputs]
    return sizes + [linear[name][0] for name in inputs if name in linear]


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PeftModel:
    """Freeze the language model and scale in the blocks `layers` (None: all).

    All vectors start as ones: the model is the same at the start.

    Raises:
        TrainingError: the blocks have no such linear layers.
    """
    from peft import IA3Config, get_peft_model

    from layersight.adapters.targets import KEYS_AND_VALUES, OUT_OF_MLP, Targets

    blocks = Targets(language_model, layers)
    scaled = blocks.linears(options.target_modules, KEYS_AND_VALUES, "target_modules")
    inputs = blocks.linears(options.feedforward_modules, OUT_OF_MLP, "feedforward_modules")
    config = IA3Config(
        target_modules=blocks.pattern([*scaled, *inputs]),
        feedforward_modules=blocks.pattern(inputs) if inputs else [],
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)
