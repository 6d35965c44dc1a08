"""Any other method of the PEFT library, by the class of its configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

    from layersight.adapters.targets import Targets

_SET_HERE = (
    "auto_mapping", "base_model_name_or_path", "inference_mode", "layers_pattern",
    "layers_to_transform", "peft_type", "peft_version", "revision", "task_type",
)  # fmt: skip
"""Fields that the workflow sets; blocks are chosen by the variant's `layers`."""
_OUTSIDE = ("AdaLoraConfig", "AdaptionPromptConfig", "PolyConfig", "ShadowConfig", "XLoraConfig")
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
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PeftModel:
    """Freeze the language model and let PEFT adapt the blocks `layers` (None: as it says itself).

    Raises:
        TrainingError: PEFT cannot apply the method to this language model or to these blocks, a
            target module is in none of them, nothing learns, or something outside of them does.
    """
    from peft import get_peft_model

    from layersight.adapters.targets import Targets
    from layersight.errors import TrainingError

    what = f"options of the method peft: {options.config}"
    blocks = Targets(language_model, layers)
    try:
        config = configuration(options, **_targets(language_model, blocks, options, layers is None))
        tuned = get_peft_model(language_model, config)
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise TrainingError(f"{what}: {error}") from None
    learning = [name for name, p in tuned.named_parameters() if p.requires_grad]
    if not learning:
        raise TrainingError(f"{what}: no parameter learns")
    inside = [f".{blocks.root}.{layer}." for layer in blocks.layers]
    for name in learning:
        if layers is not None and not any(part in name for part in inside):
            raise TrainingError(
                f"{what}: {name} would learn, which is outside the variant's layers; leave out the "
                "argument that makes it, or the layers"
            )
    return tuned


def _targets(
    language_model: PreTrainedModel, blocks: Targets, options: Options, everywhere: bool
) -> dict[str, Any]:
    """Return the arguments that restrict a configuration to some blocks."""
    names = options.arguments.get("target_modules")
    if isinstance(names, list):
        inside = language_model.named_modules() if everywhere else blocks.modules()
        known = [f".{name}" for name, _ in inside]
        for name in names:
            if not any(one.endswith(f".{name}") for one in known):
                raise ValueError(
                    f"target_modules: {name} is no module of {blocks}; their linear layers are "
                    f"{', '.join(blocks.linear_names())}"
                )
    if everywhere:
        return {}
    if names == "all-linear":
        names = blocks.linear_names()
    if isinstance(names, list):
        return {"target_modules": blocks.pattern(names)}
    known_fields = {field.name for field in dataclasses.fields(_classes()[options.config])}
    if names is None and "layers_to_transform" in known_fields:
        return {"layers_to_transform": blocks.layers}
    raise ValueError(
        "it chooses no blocks by itself: list target_modules among the arguments, or give the "
        "variant no layers"
    )


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
