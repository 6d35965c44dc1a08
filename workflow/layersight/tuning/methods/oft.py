"""Orthogonal fine-tuning with full blocks (Qiu et al. 2023), as LLaVA Steering compares with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PositiveInt

from layersight.strict import Strict

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Options(Strict):
    """Settings of OFT, named as PEFT names them; L · 3 r (D / r)² parameters by default.
    The blocks are full matrices, as PEFT stored them until 0.10; its present OFT, with half the
    parameters, is `method: peft` with `config: OFTConfig`.
    """

    r: PositiveInt = 16
    """Number of blocks that the outputs of a linear layer are cut into; must divide them."""
    target_modules: Annotated[list[str], Field(min_length=1)] | None = None
    """Linear layers whose output is rotated; null means those of queries, keys and values."""


def tensors(options: Options, linear: Mapping[str, tuple[int, int]], width: int) -> list[int]:
    """Return the sizes of the tensors that learn in a block, given its linear layers' widths."""
    names = options.target_modules or ["q_proj", "k_proj", "v_proj"]
    return [linear[name][1] ** 2 // options.r for name in names if name in linear]


def apply(
    language_model: PreTrainedModel, options: Options, layers: Sequence[int] | None
) -> PeftModel:
    """Freeze the language model and rotate in the blocks `layers` (None: all).

    All rotations start as the identity: the model is the same at the start.

    Raises:
        TrainingError: the blocks have no such linear layers, or r does not divide their outputs.
    """
    from peft import get_peft_model

    from layersight.adapters.block_rotation import BlockRotationConfig
    from layersight.adapters.targets import QUERIES_KEYS_VALUES, Targets
    from layersight.errors import TrainingError

    blocks = Targets(language_model, layers)
    names = blocks.linears(options.target_modules, QUERIES_KEYS_VALUES, "target_modules")
    for name, linear in blocks.linear_layers():
        if name in names and linear.out_features % options.r:
            raise TrainingError(
                f"options.r: {options.r} blocks do not divide the {linear.out_features} outputs of "
                f"{name}"
            )
    config = BlockRotationConfig(
        r=options.r,
        target_modules=blocks.pattern(names),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(language_model, config)
