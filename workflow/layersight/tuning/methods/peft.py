"""Any other method of the PEFT library, by the class of its configuration."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

_SET_HERE = (
    "auto_mapping", "base_model_name_or_path", "inference_mode", "layers_pattern",
    "layers_to_transform", "peft_type", "peft_version", "revision", "task_type",
)  # fmt: skip
"""Fields that the workflow sets; blocks are chosen by the variant's `layers`."""
_OUTSIDE = ("AdaptionPromptConfig", "PolyConfig", "ShadowConfig", "XLoraConfig")
"""Methods that need PEFT's own forward pass, or another training loop."""


class Options(Strict):
    """A configuration class of PEFT and its arguments, checked against the class.
    Methods that put prompts before the input are refused: they act in PEFT's own forward pass,
    which image features do not go through.
    """

    config: str
    """Name of the class in the package `peft`, such as `LoHaConfig`."""
    arguments: dict[str, Any] = Field(default={}, validate_default=True)
    """Its arguments; `layers_to_transform` comes from the variant's `layers`."""

    @model_validator(mode="after")
    def _fits_the_class(self) -> Options:
        configuration(self)
        return self


def configuration(options: Options, **more: Any) -> PeftConfig:
    """Make PEFT's configuration.

    Args:
        options: class and arguments.
        more: further arguments, which win.

    Raises:
        ValueError: no such class, an argument that it does not know, or a value that it refuses.
    """
    known = _classes()
    if options.config not in known:
        raise ValueError(f"config: {options.config!r} is none of {', '.join(sorted(known))}")
    chosen = known[options.config]
    fields = {field.name for field in dataclasses.fields(chosen)} - {*_SET_HERE}
    for name in options.arguments:
        if name in _SET_HERE:
            raise ValueError(f"arguments: {name} is set by the workflow; leave it out")
        if name not in fields:
            raise ValueError(
                f"arguments: {options.config} knows no {name!r}; known: {', '.join(sorted(fields))}"
            )
    try:
        return chosen(**{**options.arguments, "task_type": "CAUSAL_LM", **more})
    except (ValueError, TypeError, ImportError) as error:
        raise ValueError(f"arguments: {options.config} refuses them: {error}") from None


def apply(
    language_model: PreTrainedModel, options: Options, layers: tuple[int, int] | None
) -> PeftModel:
    """Freeze the language model and let PEFT adapt the blocks of `layers` = [a, b).

    Raises:
        TrainingError: PEFT cannot apply the method to this language model or to these blocks.
    """
    from peft import get_peft_model

    from layersight.errors import TrainingError

    try:
        config = configuration(options, **_for_layers(language_model, options, layers))
        return get_peft_model(language_model, config)
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise TrainingError(f"options of the method peft: {options.config}: {error}") from None


def _for_layers(
    language_model: PreTrainedModel, options: Options, layers: tuple[int, int] | None
) -> dict[str, Any]:
    """Return the arguments that restrict a configuration to a range of blocks."""
    from layersight.adapters import targets
    from layersight.models.blocks import decoder_blocks

    if layers is None:
        return {}
    chosen = targets.chosen_layers(decoder_blocks(language_model), layers)
    if "layers_to_transform" in {f.name for f in dataclasses.fields(_classes()[options.config])}:
        return {"layers_to_transform": chosen}
    names = options.arguments.get("target_modules")
    if not isinstance(names, list):
        raise ValueError(
            "it chooses no blocks by itself: list target_modules among the arguments, or give the "
            "variant no layers"
        )
    blocks = decoder_blocks(language_model)
    return {
        "target_modules": targets.full_names(
            language_model, blocks, chosen, targets.linears(blocks, names, (), "arguments")
        )
    }


def _classes() -> dict[str, type[PeftConfig]]:
    """Return PEFT's configuration classes that fit, by name."""
    import peft

    return {
        name: value
        for name, value in vars(peft).items()
        if isinstance(value, type)
        and issubclass(value, peft.PeftConfig)
        and not issubclass(value, peft.PromptLearningConfig)
        and value is not peft.PeftConfig
        and name not in _OUTSIDE
    }
