"""How an adapter of this package becomes a PEFT method."""

from __future__ import annotations

from enum import StrEnum

from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner


class AdapterType(StrEnum):
    """What `peft_type` in an `adapter_config.json` says; name and value are the same, as PEFT's."""

    LAYERSIGHT_STEERING = "LAYERSIGHT_STEERING"
    LAYERSIGHT_BOTTLENECK = "LAYERSIGHT_BOTTLENECK"
    LAYERSIGHT_BLOCK_ROTATION = "LAYERSIGHT_BLOCK_ROTATION"


def register(adapter_type: AdapterType, config: type[PeftConfig], tuner: type[BaseTuner]) -> None:
    """Enter an adapter into PEFT's tables.

    `peft.utils.register_peft_method` takes only names that PEFT's own closed enumeration holds, so
    the tables that it fills are filled here.
    """
    # PEFT's tables are typed for its own enumeration, but look up by the text.
    name: object = adapter_type
    PEFT_TYPE_TO_CONFIG_MAPPING[name] = config  # type: ignore[index]
    PEFT_TYPE_TO_TUNER_MAPPING[name] = tuner  # type: ignore[index]
    PEFT_TYPE_TO_PREFIX_MAPPING[name] = tuner.prefix  # type: ignore[index]
