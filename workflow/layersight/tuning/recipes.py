"""Published training recipes, as presets that a study names: `preset: <name>`.

A preset stands in `align`, in `tuning` or in a variant, and fills the keys that the study leaves
out there; what the study itself says always wins. It is gone once the study is read: the resolved
study holds every value.

Sources: Liu et al. 2023 (LLaVA-1.5, `scripts/v1_5`) and Bi et al. 2024 (LLaVA Steering, the
released scripts of its second and third stage). What they do not say is not filled:

* the number of rows of a task (`llava-steering-task-specific`) and the epochs over a sample of one
  (`llava-steering-1k`, `-5k`, `-10k`, otherwise as for a whole task) are the study's to give, or
  `steps` instead;
* clipping and the devices that a batch is spread over are what they are without a preset;
* which modules LoRA and OFT change has names that depend on the language model, and LLaVA Steering
  publishes several ranks of MoReS for all but the samples;
* precision and the shape of pictures belong to no stage: LLaVA-1.5 has `compute.precision:
  bfloat16` and `backbone.image_shape: pad`, LLaVA Steering `float16` and `square`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

Values = Mapping[str, Any]
KEYS = ("preset", "epochs", "rows")
"""Keys that a study file may have and the study's model has not."""


@dataclass(frozen=True)
class Recipe:
    """One published way to train.

    Attributes:
        source: where it is published.
        align: values for `align`; None if it is no recipe of stage 1.
        tuning: values for `tuning`; None if it is no recipe of stage 2.
        methods: values for a variant, by its method; the first method is that of a variant which
            names none.
    """

    source: str
    align: Values | None = None
    tuning: Values | None = None
    methods: Mapping[str, Values] = field(default_factory=dict)

    @property
    def places(self) -> list[str]:
        """What may name this preset."""
        named = {"align": self.align is not None, "tuning": self.tuning is not None}
        return [place for place, fits in named.items() if fits] + ["a variant"] * bool(self.methods)


# One pass with a cosine after a short linear rise, without weight decay.
_ONE_EPOCH = {"epochs": 1, "warmup": 0.03, "weight_decay": 0.0}
_LLAVA_STAGE_1 = {
    **_ONE_EPOCH,
    "rows": 558_128,
    "batch_size": 256,
    "learning_rate": 1e-3,
    "group_by": "none",
    "template": "plain",
    "max_tokens": 2048,
}
_LLAVA_STAGE_2 = {
    **_ONE_EPOCH,
    "rows": 665_298,
    "batch_size": 128,
    "learning_rate": 2e-5,
    "group_by": "modality_length",
    "template": "v1",
    "max_tokens": 2048,
}
_LLAVA_LORA_RATES = {"learning_rate": 2e-4, "connector_learning_rate": 2e-5}
_STEERING = {
    "batch_size": 128,
    "accumulate": 4,
    "learning_rate": 2e-4,
    "warmup": 0.03,
    "weight_decay": 0.0,
    "group_by": "none",
    "template": "phi",
}
_STEERING_LORA = {"r": 128, "lora_alpha": 256}
_STEERED_TOKENS = {"tokens": "first-last", "first": 4, "last": 5, "bias": True}


def _steering_methods(full: float, rank: int | None = None) -> dict[str, Values]:
    mores = {**_STEERED_TOKENS, "variant": "code", "dropout": 0.05}
    options: dict[str, Values] = {
        "mores": mores if rank is None else {**mores, "rank": rank},
        "lora": _STEERING_LORA,
        "adapter": {"bottleneck": 256, "dropout": 0.05, "activation": "tanh"},
        "oft": {"r": 16},
        "ia3": {},
        "full": {},
    }
    return {
        name: {
            "learning_rate": full if name == "full" else 2e-4,
            "train_connector": True,
            "options": values,
        }
        for name, values in options.items()
    }


_THIRD_STAGE = _steering_methods(full=2e-4)

RECIPES: Mapping[str, Recipe] = {
    "llava-1.5-stage-1": Recipe("Liu et al. 2023, feature alignment", align=_LLAVA_STAGE_1),
    "llava-1.5-stage-2": Recipe(
        "Liu et al. 2023, visual instruction tuning of the whole language model",
        tuning=_LLAVA_STAGE_2,
        methods={"full": {"learning_rate": 2e-5}},
    ),
    "llava-1.5-lora": Recipe(
        "Liu et al. 2023, visual instruction tuning with LoRA",
        tuning={**_LLAVA_STAGE_2, **_LLAVA_LORA_RATES},
        methods={
            "lora": {
                **_LLAVA_LORA_RATES,
                "options": {"r": 128, "lora_alpha": 256, "lora_dropout": 0.05},
            }
        },
    ),
    "llava-steering-multi-task": Recipe(
        "Bi et al. 2024, section 5.1: LLaVA-1.5's instructions",
        tuning={**_STEERING, "epochs": 1, "rows": _LLAVA_STAGE_2["rows"]},
        methods=_steering_methods(full=2e-5),
    ),
    "llava-steering-task-specific": Recipe(
        "Bi et al. 2024, section 5.2: one task, from a tuned model",
        tuning={**_STEERING, "epochs": 10},
        methods=_THIRD_STAGE,
    ),
    **{
        f"llava-steering-{thousands}k": Recipe(
            f"Bi et al. 2024, section 5.3: {thousands},000 rows of one task",
            tuning={**_STEERING, "rows": 1000 * thousands},
            methods=_steering_methods(full=2e-4, rank=2),
        )
        for thousands in (1, 5, 10)
    },
}


def resolve(data: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what presets say, and turn epochs into steps.

    Args:
        data: a study as read from its file, not yet checked.

    Returns:
        The study without the keys `preset`, `epochs` and `rows`.

    Raises:
        ValueError: a preset is unknown or of another place, or `steps` does not follow from epochs
            and rows; the message begins with the key.
    """
    resolved = dict(data)
    for stage in ("align", "tuning"):
        if isinstance(data.get(stage), Mapping):
            resolved[stage] = _stage(stage, data[stage])
    variants = data.get("variants")
    if isinstance(variants, Mapping):
        resolved["variants"] = {
            name: _variant(f"variants.{name}", values) if isinstance(values, Mapping) else values
            for name, values in variants.items()
        }
    return resolved


def steps(rows: int, epochs: float, batch_size: int) -> int:
    """Return the optimiser steps of a training, a last batch that is not full included.

    Args:
        rows: conversations of an epoch.
        epochs: how often each is seen.
        batch_size: conversations of a step.
    """
    return math.ceil(rows * epochs / batch_size)


def _stage(stage: str, given: Values) -> dict[str, Any]:
    own = dict(given)
    recipe = _named(stage, own.pop("preset", None))
    preset: Values = {}
    if recipe is not None:
        found = recipe.align if stage == "align" else recipe.tuning
        if found is None:
            raise ValueError(
                f"{stage}.preset: {given['preset']!r} is a recipe for {' and '.join(recipe.places)}"
            )
        preset = found
    for key in ("steps", "epochs", "rows"):  # null takes an inherited one away
        if own.get(key, 0) is None:
            del own[key]
    length = [key for key in ("epochs", "rows") if key in own]
    if "steps" in own and length:
        raise ValueError(
            f"{stage}: steps is given, and so is {length[0]}, from which steps would follow; take "
            f"one of them away (`null` takes away what another study says)"
        )
    filled = {**preset, **own}
    epochs, rows = filled.pop("epochs", None), filled.pop("rows", None)
    if "steps" not in own and not (epochs is None and rows is None):
        filled["steps"] = _steps(stage, rows, epochs, filled.get("batch_size"))
    return filled


def _steps(stage: str, rows: object, epochs: object, batch_size: object) -> int:
    missing, other = ("rows", "epochs") if rows is None else ("epochs", "rows")
    if rows is None or epochs is None:
        raise ValueError(
            f"{stage}.{missing}: required where {other} is given, since steps follow from both; or "
            f"give steps"
        )
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise ValueError(f"{stage}.rows: must be a number of conversations, not {rows!r}")
    if isinstance(epochs, bool) or not isinstance(epochs, (int, float)) or not epochs > 0:
        raise ValueError(f"{stage}.epochs: must be a number above 0, not {epochs!r}")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        return 1  # any: the check of the study says what is wrong with batch_size
    try:
        return steps(rows, epochs, batch_size)
    except OverflowError:
        raise ValueError(f"{stage}.epochs: {epochs!r} of {rows} rows are too many steps") from None


def _variant(key: str, given: Values) -> dict[str, Any]:
    own = dict(given)
    name = own.pop("preset", None)
    recipe = _named(key, name)
    if recipe is None:
        return own
    if not recipe.methods:
        raise ValueError(f"{key}.preset: {name!r} is a recipe for {' and '.join(recipe.places)}")
    own.setdefault("method", next(iter(recipe.methods)))
    method = own["method"]
    if not isinstance(method, str) or method not in recipe.methods:
        raise ValueError(
            f"{key}.preset: {name!r} says nothing of the method {method!r}, but of "
            f"{', '.join(recipe.methods)}"
        )
    filled = {**recipe.methods[method], **own}
    options = own.get("options", {})
    if isinstance(options, Mapping):
        filled["options"] = {**recipe.methods[method].get("options", {}), **options}
    return filled


def _named(key: str, name: object) -> Recipe | None:
    if name is None:
        return None
    if isinstance(name, str) and name in RECIPES:
        return RECIPES[name]
    close = get_close_matches(str(name), RECIPES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{key}.preset: unknown recipe {name!r}; known: {', '.join(RECIPES)}{hint}")
